addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const url = new URL(request.url);
  if (url.pathname === '/stream') {
    const encoder = new TextEncoder();
    const stream = new ReadableStream({
      async start(controller) {
        for (let index = 0; index < 3; index++) {
          controller.enqueue(encoder.encode(`part ${index}\n`));
          await new Promise((resolve) => setTimeout(resolve, 200));
        }
        controller.close();
      },
    });
    return new Response(stream, { headers: { 'content-type': 'text/plain' } });
  }
  if (request.method === 'POST') {
    const got = await request.json();
    return new Response(JSON.stringify({ got }), { headers: { 'content-type': 'application/json' } });
  }
  return new Response(`Hello from JavaScript at ${url.pathname}${url.search}\n`);
}
