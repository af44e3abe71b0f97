// BullMQ at work: `worker` does jobs and leaves marks, `accept` hands in a job for each line it reads, `flows` plays its own part.
//
//     node bullmq.mjs worker|accept|flows PORT
//
// A mark is a line in the file that LMDBREDIS_MARKS names: `word name time`, as tests/jobs.py writes it.

import assert from "node:assert/strict";
import fs from "node:fs";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";

const [role, port] = process.argv.slice(2);
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null, retryStrategy: () => 50 };
const LIMIT_MS = 20_000;

function mark(word, name) {
  fs.appendFileSync(process.env.LMDBREDIS_MARKS, `${word} ${name} ${Date.now() / 1000}\n`);
}

async function work(job) {
  if (job.name === "fails") {
    mark("try", job.data.name);
    if (job.attemptsMade < job.data.failures) throw new Error(`${job.data.name} fails`);
  }
  const children = await job.getChildrenValues();
  mark("begin", job.data.name);
  await sleep(job.data.ms ?? 0);
  mark("done", job.data.name);
  return { name: job.data.name, children: Object.values(children).map((child) => child.name).sort() };
}

async function worker() {
  // What a crash left at work is found to be stalled after seconds; half a minute by default.
  const options = { connection, concurrency: 1, lockDuration: 2000, stalledInterval: 1000 };
  const one = new Worker("jobs", work, options);
  one.on("error", (error) => console.log(String(error)));
  process.on("SIGTERM", () => process.exit(0));
}

async function accept() {
  const queue = new Queue("jobs", { connection });
  queue.on("error", (error) => console.log("error", String(error)));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ms] = line.split(" ");
    await queue.add("work", { name, ms: Number(ms) });
    console.log(`accepted ${name}`);
  }
  await queue.close();
}

async function flows() {
  const queue = new Queue("jobs", { connection });
  const events = new QueueEvents("jobs", { connection });
  await events.waitUntilReady();
  const finished = (job) => job.waitUntilFinished(events, LIMIT_MS);

  const plain = await queue.addBulk(Array.from({ length: 20 }, (_, n) => ({ name: "work", data: { name: `n${n}` } })));
  mark("asked", "later");
  const later = await queue.add("work", { name: "later" }, { delay: 1000 });
  const again = await queue.add("fails", { name: "again", failures: 2 }, { attempts: 3, backoff: 100 });
  const lost = await queue.add("fails", { name: "lost", failures: 9 }, { attempts: 2, backoff: { type: "exponential", delay: 50 } });
  for (const [n, job] of plain.entries()) assert.deepEqual(await finished(job), { name: `n${n}`, children: [] });
  assert.equal((await finished(again)).name, "again");
  await assert.rejects(finished(lost), /lost fails/);
  assert.equal((await finished(later)).name, "later");
  assert.deepEqual((await queue.getFailed()).map((job) => job.data.name), ["lost"]);

  const producer = new FlowProducer({ connection });
  const child = (name) => ({ name: "work", queueName: "jobs", data: { name } });
  const flow = await producer.add({ ...child("parent"), children: [child("a"), { ...child("b"), children: [child("c")] }] });
  assert.deepEqual(await finished(flow.job), { name: "parent", children: ["a", "b"] });

  await queue.upsertJobScheduler("every", { every: 200, limit: 3 }, { name: "work", data: { name: "tick" } });
  const until = Date.now() + LIMIT_MS;
  while ((await queue.getCompleted()).filter((job) => job.data.name === "tick").length < 3) {
    assert(Date.now() < until, "the repeated job came too seldom");
    await sleep(20);
  }

  await queue.pause();
  const urgent = [];
  for (const priority of [3, 1, 2]) urgent.push(await queue.add("work", { name: `p${priority}` }, { priority }));
  await queue.resume();
  for (const job of urgent) await finished(job);

  const counts = await queue.getJobCounts("wait", "active", "delayed", "prioritized", "waiting-children", "failed");
  assert.deepEqual(counts, { wait: 0, active: 0, delayed: 0, prioritized: 0, "waiting-children": 0, failed: 1 });
  await queue.obliterate({ force: true });
  await Promise.all([queue.close(), events.close(), producer.close()]);
  console.log("all is well");
}

await { worker, accept, flows }[role]();
