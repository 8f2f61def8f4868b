// A tool that builds graphs: uploads a picture, submits over the socket, hears each node.
import { readFile } from "node:fs/promises";
import { check, get, keep, post } from "./http.mjs";

const [base, folder, photo] = process.argv.slice(2);

const form = new FormData();
form.set("file", new Blob([await readFile(photo)], { type: "image/jpeg" }), "from node.jpg");
form.set("overwrite", "true");
const answer = await fetch(`${base}/api/v1/images/upload`, { method: "POST", body: form });
const uploaded = await answer.json();
check(answer.ok && uploaded.type === "input", uploaded);

const workflow = {
  1: { class_type: "LoadImage", inputs: { image: uploaded.name } },
  2: { class_type: "ImageInvert", inputs: { image: ["1", 0] } },
  3: { class_type: "SaveImage", inputs: { images: ["2", 0], filename_prefix: "node" } },
};
const client = `node-${process.pid}`;
const messages = [];
const promptId = await new Promise((resolve, reject) => {
  const socket = new WebSocket(`${base.replace(/^http/, "ws")}/api/v1/ws/${client}`);
  setTimeout(() => reject(new Error(`no result: ${JSON.stringify(messages)}`)), 100_000).unref();
  socket.onopen = () => {
    socket.send("not json");
    socket.send(JSON.stringify({ type: "submit", data: { workflow } }));
  };
  socket.onerror = () => reject(new Error("the socket failed"));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    messages.push(message);
    if (message.type === "result") {
      socket.close();
      resolve(message.data.prompt_id);
    } else if (message.type === "execution_error") {
      reject(new Error(data));
    }
  };
});
const kinds = new Set(messages.map((message) => message.type));
for (const kind of ["executing", "executed", "result"]) check(kinds.has(kind), messages);

const history = await get(`${base}/api/v1/workflows/${promptId}/history`);
const told = history[promptId] ?? history;
check(told.status.completed === true && told.status.status_str === "success", history);
const image = told.outputs["3"].images[0];
const where = new URLSearchParams(image);
await keep(`${base}/api/v1/images/download?${where}`, `${folder}/downloaded.png`);
const { url } = await get(`${base}/api/v1/images/url?${where}`);
await keep(new URL(url, base), `${folder}/by-url.png`);
const { images } = await get(`${base}/api/v1/workflows/${promptId}/images`);
await keep(new URL(images[0].url, base), `${folder}/listed.png`);

const submitted = await post(`${base}/api/v1/workflows/submit`, { workflow, client_id: client });
check(typeof submitted.prompt_id === "string", submitted);
check((await get(`${base}/api/v1/queue/status`)) !== null);
check((await post(`${base}/api/v1/queue/clear`, { clear: true })) !== null);
check((await post(`${base}/api/v1/workflows/interrupt`, {})) !== null);
