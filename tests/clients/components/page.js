// A component that answers HTTP, for componentize-js: see main.mjs for what is asked of it.

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const text = { headers: { 'content-type': 'text/plain' } };

async function answer(request) {
  const { pathname, search } = new URL(request.url);
  if (pathname === '/echo') return new Response(streamed(upper(request.body)), text);
  if (pathname === '/count') return new Response(String(await count(request.body)), text);
  if (pathname === '/stream') return new Response(streamed(slowly(3)), text);
  if (request.method === 'POST') {
    const got = await request.json();
    return new Response(JSON.stringify({ got }), { headers: { 'content-type': 'application/json' } });
  }
  return new Response(`Hello from JavaScript at ${pathname}${search}\n`);
}

function streamed(pieces) {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

async function* parts(body) {
  for (const reader = body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function* upper(body) {
  for await (const part of parts(body)) yield encoder.encode(decoder.decode(part).toUpperCase());
}

async function* slowly(count) {
  for (let index = 0; index < count; index++) {
    yield encoder.encode(`part ${index}\n`);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

async function count(body) {
  let bytes = 0;
  for await (const part of parts(body)) bytes += part.length;
  return bytes;
}
