// A receiver: node receiver.mjs PORT SECRET_FILE FOLDER; the secret is whsec_...

import { createHmac, timingSafeEqual } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

const [port, secretFile, folder] = process.argv.slice(2);
const key = Buffer.from(readFileSync(secretFile, "utf8").trim().replace(/^whsec_/, ""), "base64");
const BODY_BYTES_MAX = 32 * 1024 * 1024;

/** Whether it comes from who has the secret, unchanged, and lately. */
function isSigned(headers, body) {
  const stamp = headers["webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(stamp) || Math.abs(Date.now() / 1000 - Number(stamp)) > 300) return false;
  const ours = createHmac("sha256", key).update(`${headers["webhook-id"]}.${stamp}.`).update(body).digest();
  // Several stand there while a secret is replaced.
  return (headers["webhook-signature"] ?? "").split(" ").some((signature) => {
    const theirs = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return signature.startsWith("v1,") && theirs.length === ours.length && timingSafeEqual(ours, theirs);
  });
}

/** Keeps what came; false: it came before. On disk when this returns. */
function store(payloadId, body) {
  if (!/^pl_[0-9A-Z]{26}$/.test(payloadId)) throw new Error("no payload id"); // it becomes a file's name
  const file = join(folder, `${payloadId}.json`);
  if (existsSync(file)) return false;
  writeFileSync(`${file}.new`, body, { flush: true });
  renameSync(`${file}.new`, file); // whole, or not there
  const names = openSync(folder);
  fsyncSync(names); // the new name is on disk, too
  closeSync(names);
  return true;
}

const server = createServer(async (request, response) => {
  const answer = (status, text) => response.writeHead(status, { "content-length": text.length }).end(text);
  try {
    const parts = [];
    let length = 0;
    for await (const part of request) {
      length += part.length;
      if (length > BODY_BYTES_MAX) return answer(413, "too large");
      parts.push(part);
    }
    const body = Buffer.concat(parts);
    if (!isSigned(request.headers, body)) return answer(401, "not signed with our secret");
    // Only kept here: the answer must not wait for the work.
    const isNew = store(request.headers["webhook-id"], body);
    const orders = JSON.parse(body).Data;
    console.log(isNew ? "stored" : "known", request.headers["webhook-id"], orders.length);
    answer(200, "thank you");
  } catch (error) {
    console.error(error.message);
    answer(503, "later"); // it comes again
  }
});
server.listen(Number(port), "127.0.0.1", () => console.log("listening on", server.address().port));
