// A greeting in JavaScript: the file is what is uploaded.

function main(params) {
  const name = params.name ?? 'stranger';
  if (typeof name !== 'string') {
    return { error: `name must be a string, not ${JSON.stringify(name)}` };
  }
  console.log('greeting', name); // a line of the activation's log
  return { greeting: `Hello, ${name}!` };
}
