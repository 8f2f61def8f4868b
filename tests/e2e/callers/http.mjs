// What every caller here does: plain requests, answers checked, pictures kept.
import { createServer } from "node:http";
import { writeFile } from "node:fs/promises";

const PATIENCE_MS = 100_000;

export function check(held, shown) {
  if (!held) throw new Error(`not as agreed: ${JSON.stringify(shown)}`);
}

async function answered(response, status) {
  const text = await response.text();
  if (status === undefined ? !response.ok : response.status !== status) {
    throw new Error(`${response.url} answered ${response.status}: ${text}`);
  }
  return JSON.parse(text);
}

export async function get(url) {
  return answered(await fetch(url));
}

export async function post(url, body, status) {
  const headers = { "Content-Type": "application/json" };
  return answered(await fetch(url, { method: "POST", headers, body: JSON.stringify(body) }), status);
}

/** The answer of `url` once its status is one of `ended`. */
export async function poll(url, ended) {
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const told = await get(url);
    if (ended.includes(told.status)) return told;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`${url} did not come to an end`);
}

export async function keep(url, path) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  check(response.headers.get("content-type").startsWith("image/"), `${url} is no picture`);
  await writeFile(path, Buffer.from(await response.arrayBuffer()));
}

/** All messages of a socket, up to one for which `isLast` holds. */
export function hear(url, isLast) {
  return new Promise((resolve, reject) => {
    const messages = [];
    const socket = new WebSocket(url.replace(/^http/, "ws"));
    const late = setTimeout(() => reject(new Error(`${url} fell silent`)), PATIENCE_MS);
    socket.onerror = () => reject(new Error(`${url} failed`));
    socket.onmessage = ({ data }) => {
      messages.push(JSON.parse(data));
      if (isLast(messages.at(-1))) {
        clearTimeout(late);
        socket.close();
        resolve(messages);
      }
    };
  });
}

/** Serves one picture on this machine, as an app's own store would. */
export async function serve(data, type) {
  const server = createServer((_, response) => {
    response.writeHead(200, { "Content-Type": type });
    response.end(data);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/photo.jpg`,
    close: () => server.close(),
  };
}
