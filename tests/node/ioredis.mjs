// ioredis in its ways of talking: `talk` says everything once, `push` pushes numbers and leaves a mark for each that was acknowledged.
//
//     node ioredis.mjs talk PORT | push PORT COUNT

import assert from "node:assert/strict";
import fs from "node:fs";
import { Cluster, Redis } from "ioredis";

const [role, port, count] = process.argv.slice(2);
const options = { host: "127.0.0.1", port: Number(port) };

async function pipelines(redis) {
  const replies = await redis.pipeline().set("k", "v").incr("n").lpush("k", "x").get("k").exec();
  assert.deepEqual([replies[0], replies[1], replies[3]], [[null, "OK"], [null, 1], [null, "v"]]);
  assert.match(replies[2][0].message, /^WRONGTYPE/);
  const many = redis.pipeline();
  for (let n = 0; n < 5000; n++) many.set(`many:${n}`, n);
  assert((await many.exec()).every(([error, reply]) => error === null && reply === "OK"));
  const automatic = new Redis({ ...options, enableAutoPipelining: true });
  const values = await Promise.all(Array.from({ length: 500 }, (_, n) => automatic.get(`many:${n}`)));
  assert.deepEqual(values, values.map((_, n) => String(n)));
  automatic.disconnect();
}

async function transactions(redis) {
  assert.deepEqual(await redis.multi().set("t", 1).incrby("t", 4).get("t").exec(), [[null, "OK"], [null, 5], [null, "5"]]);
  await redis.watch("t");
  const other = redis.duplicate();
  await other.set("t", "another's");
  other.disconnect();
  assert.equal(await redis.multi().set("t", "mine").exec(), null);
  await redis.multi({ pipeline: false });
  assert.equal(await redis.get("t"), "QUEUED");
  assert.deepEqual(await redis.exec(), [[null, "another's"]]);
  await assert.rejects(redis.multi().set("t").exec(), /EXECABORT/);
}

async function blocking(redis) {
  const waiting = redis.duplicate();
  const blocked = async () => {
    while (!/blocked_clients:1\r/.test(await redis.info("clients")));
  };
  const cases = [
    [() => waiting.blpop("none", "list", 0), () => redis.rpush("list", "a"), ["list", "a"]],
    [() => waiting.brpop("list", 0), () => redis.rpush("list", "b"), ["list", "b"]],
    [() => waiting.blmove("list", "other", "LEFT", "RIGHT", 0), () => redis.rpush("list", "c"), "c"],
    [() => waiting.bzpopmin("zset", 0), () => redis.zadd("zset", 1, "m"), ["zset", "m", "1"]],
  ];
  for (const [wait, push, expected] of cases) {
    const reply = wait();
    await blocked();
    await push();
    assert.deepEqual(await reply, expected);
  }
  assert.equal(await waiting.blpop("none", 0.01), null);
  waiting.disconnect();
}

async function streams(redis) {
  const first = await redis.xadd("stream", "*", "field", "1");
  await redis.xadd("stream", "MAXLEN", "~", 1000, "*", "field", "2", "more", "3");
  assert.deepEqual((await redis.xrange("stream", "-", "+")).map(([, words]) => words), [["field", "1"], ["field", "2", "more", "3"]]);
  assert.equal(await redis.xgroup("CREATE", "stream", "group", "0"), "OK");
  const [[name, entries]] = await redis.xreadgroup("GROUP", "group", "ann", "COUNT", 10, "STREAMS", "stream", ">");
  assert.deepEqual([name, entries.length, entries[0][0]], ["stream", 2, first]);
  assert.equal((await redis.xpending("stream", "group"))[0], 2);
  assert.equal(await redis.xack("stream", "group", first), 1);
  assert.equal((await redis.xautoclaim("stream", "group", "bob", 0, "0"))[1].length, 1);
  const waiting = redis.duplicate();
  const reply = waiting.xread("BLOCK", 0, "STREAMS", "stream", "$");
  while (!/blocked_clients:1\r/.test(await redis.info("clients")));
  const last = await redis.xadd("stream", "*", "late", "yes");
  assert.deepEqual(await reply, [["stream", [[last, ["late", "yes"]]]]]);
  waiting.disconnect();
}

async function scripts(redis) {
  redis.defineCommand("swap", {
    numberOfKeys: 2,
    lua: "local a, b = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]) redis.call('MSET', KEYS[1], b, KEYS[2], a) return {b, a, ARGV[1]}",
  });
  await redis.mset("a", "1", "b", "2");
  assert.deepEqual(await redis.swap("a", "b", "word"), ["2", "1", "word"]);
  assert.deepEqual(await redis.swap("a", "b", "word"), ["1", "2", "word"]);
  await assert.rejects(redis.eval("return redis.call('LPUSH', KEYS[1], 1)", 1, "a"), /WRONGTYPE/);
}

async function subscriptions(redis) {
  const subscriber = redis.duplicate();
  const heard = [];
  assert.equal(await subscriber.subscribe("news", "weather"), 2);
  assert.equal(await subscriber.psubscribe("sport.*"), 3);
  const all = new Promise((resolve) => {
    subscriber.on("message", (channel, text) => (text === "end" ? resolve() : heard.push([channel, text])));
    subscriber.on("pmessage", (pattern, channel, text) => heard.push([pattern, channel, text]));
  });
  assert.equal(await redis.publish("weather", "rain"), 1);
  assert.equal(await redis.publish("sport.chess", "draw"), 1);
  await redis.publish("news", "end");
  await all;
  assert.deepEqual(heard, [["weather", "rain"], ["sport.*", "sport.chess", "draw"]]);
  subscriber.disconnect();
}

async function iterators(redis) {
  const found = new Set();
  for await (const keys of redis.scanStream({ match: "many:*", count: 500 })) keys.forEach((key) => found.add(key));
  assert.equal(found.size, 5000);
  await redis.hset("hash", Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`f${n}`, n])));
  assert.equal(Object.keys(await redis.hgetall("hash")).length, 100);
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  await redis.set("bytes", bytes);
  assert.deepEqual(await redis.getBuffer("bytes"), bytes);
}

async function noCluster(redis) {
  assert.match(await redis.info("cluster"), /cluster_enabled:0/);
  const cluster = new Cluster([options], { clusterRetryStrategy: null, lazyConnect: true });
  cluster.on("error", () => {});
  await assert.rejects(cluster.connect());
  cluster.disconnect();
}

async function talk() {
  const redis = new Redis(options);
  for (const part of [pipelines, transactions, blocking, streams, scripts, subscriptions, iterators, noCluster]) {
    await part(redis);
    console.log(part.name);
  }
  console.log("all is well");
  process.exit(0);
}

async function push() {
  const redis = new Redis({ ...options, maxRetriesPerRequest: null, retryStrategy: () => 20 });
  redis.on("error", () => {});
  for (let n = 0; n < Number(count); n++) {
    await redis.rpush("numbers", n);
    fs.appendFileSync(process.env.LMDBREDIS_MARKS, `done ${n} ${Date.now() / 1000}\n`);
  }
  redis.disconnect();
}

await { talk, push }[role]();
