// A designer's tool: pictures in base64, polled until finished, and the history.
import { readFile } from "node:fs/promises";
import { check, get, keep, poll, post } from "./http.mjs";

const [base, folder, photo] = process.argv.slice(2);
const source = `data:image/jpeg;base64,${(await readFile(photo)).toString("base64")}`;

const started = await post(`${base}/api/generate`, {
  workflow: "style_change", prompt: "soft colours", seed: -1, batch_size: 2,
  images: { source },
}, 202);
check(started.status === "queued", started);
const job = await poll(`${base}/api/status/${started.job_id}`, ["finished", "failed", "cancelled"]);
check(job.status === "finished" && job.progress === 100, job);
check(job.image_url.startsWith("/outputs/") && job.image_urls.length === 2, job);
for (const [number, path] of job.image_urls.entries()) {
  await keep(base + path, `${folder}/studio-${number}.png`);
}

const history = await get(`${base}/api/history?limit=50&offset=0`);
check(history.total >= 1 && history.limit === 50 && history.offset === 0, history);
const record = history.jobs.find((one) => one.id === started.job_id);
check(record.output_path === job.image_urls.join(","), record);
check(record.prompt === "soft colours" && record.batch_size === 2 && record.status === "finished", record);
const models = await get(`${base}/api/models`);
check(Array.isArray(models.checkpoints) && Array.isArray(models.unet), models);
check((await get(`${base}/health`)).status !== undefined);
