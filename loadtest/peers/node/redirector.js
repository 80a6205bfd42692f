// A redirector as one writes it in an afternoon: a map of links, and one line of JSON into a stream.
//   node redirector.js LOG PORT
const { randomUUID } = require("node:crypto");
const { createWriteStream } = require("node:fs");
const { createServer } = require("node:http");

const [log, port] = process.argv.slice(2);
const records = createWriteStream(log, { flags: "a" });
const pages = new Map();
for (let link = 0; link < 1024; link++) pages.set(`/l${link}`, `https://shop.example/p/${link}?color=black`);

const cookieOf = (header) => /(?:^|; )aff_vid=([^;]*)/.exec(header ?? "")?.[1] ?? "";

createServer((request, response) => {
  const page = pages.get(request.url.split("?", 1)[0]);
  if (!page) {
    response.writeHead(404).end();
    return;
  }
  const id = randomUUID();
  const { "user-agent": agent = "", referer = "", cookie } = request.headers;
  const ip = request.socket.remoteAddress;
  records.write(JSON.stringify({ at: Date.now(), uri: request.url, ip, agent, referer, cookie: cookieOf(cookie), id }) + "\n");
  response.writeHead(302, {
    Location: `${page}&click_id=${id}`,
    "Cache-Control": "no-store",
    "Set-Cookie": `aff_vid=${id}; Path=/; HttpOnly; SameSite=Lax; Max-Age=34560000`,
  });
  response.end();
}).listen(Number(port), "127.0.0.1", 4096);
