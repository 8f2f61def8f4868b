// An application: a named workflow with a remote picture, then a whole graph, polled.
import { readFile } from "node:fs/promises";
import { check, get, keep, poll, post, serve } from "./http.mjs";

const [base, folder, photo] = process.argv.slice(2);
const picture = await serve(await readFile(photo), "image/jpeg");
const ended = ["completed", "failed", "cancelled"];

const created = await post(`${base}/api/tasks/create`, {
  workflow: "style_change",
  inputs: { image: picture.url, style: "cartoon" },
  priority: 5, max_retries: 1, metadata: { order: 7 },
});
check(created.status === "pending", created);
const task = await poll(`${base}/api/tasks/${created.task_id}`, ended);
check(task.status === "completed" && task.retries === 0 && task.progress === 100, task);
check(task.error === null, task);
await keep(images(task)[0], `${folder}/cartoon.png`);

const graph = {
  1: { class_type: "LoadImage", inputs: { image: picture.url } },
  2: { class_type: "ImageInvert", inputs: { image: ["1", 0] } },
  3: { class_type: "SaveImage", inputs: { images: ["2", 0], filename_prefix: "inverted" } },
};
const own = await post(`${base}/api/tasks/create`, { workflow: graph, inputs: {} });
await keep(images(await poll(`${base}/api/tasks/${own.task_id}`, ended))[0], `${folder}/inverted.png`);

check((await get(`${base}/api/comfyui-queue-status`)) !== null);
check((await get(`${base}/api/comfyui-system-stats`)) !== null);
check((await post(`${base}/api/comfyui-interrupt`, {})) !== null);
check((await get(`${base}/api/health`)).status !== undefined);
check((await get(`${base}/api/status`)).status !== undefined);
picture.close();

function images(task) {
  check(task.status === "completed", task);
  return task.result.images.map((image) => (typeof image === "string" ? image : image.url));
}
