// The back end of an app: hands over a picture's URL, polls, listens, and keeps the result.
import { readFile } from "node:fs/promises";
import { check, get, hear, keep, poll, post, serve } from "./http.mjs";

const [base, folder, photo] = process.argv.slice(2);
const picture = await serve(await readFile(photo), "image/jpeg");

const started = await post(`${base}/api/v1/transform`, {
  user_id: "node", image_url: picture.url, style_type: "anime", strength: 0.8,
});
check(started.status === "pending", started);
const heard = hear(`${base}/api/v1/task/${started.task_id}/ws`, (message) =>
  ["completed", "failed", "cancelled"].includes(message.status));
const task = await poll(`${base}/api/v1/task/${started.task_id}`, ["completed", "failed", "cancelled"]);
check(task.status === "completed" && task.progress === 100 && task.user_id === "node", task);
await keep(task.output_image_url, `${folder}/anime.png`);
const messages = await heard;
check(messages.at(-1).status === "completed", messages);

const batch = await post(`${base}/api/v1/transform/batch`, {
  user_id: "node", image_urls: [picture.url, "ftp://example.com/x.png"], style_type: "clay",
});
check(batch.results.length === 2 && batch.results[1].status === "failed", batch);
const first = await poll(`${base}/api/v1/task/${batch.results[0].task_id}`, ["completed", "failed"]);
await keep(first.output_image_url, `${folder}/clay.png`);

const mine = await get(`${base}/api/v1/user/node/tasks?limit=50`);
check(mine.tasks.length === 2 && mine.tasks.every((one) => one.user_id === "node"), mine);
check((await get(`${base}/api/v1/user/nobody/tasks`)).tasks.length === 0);
picture.close();
