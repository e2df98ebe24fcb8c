function main(params) {
  const name = params.name ?? 'stranger';
  if (name === '') {
    throw new Error('name must not be empty');
  }
  console.log('greeting', name);
  return { greeting: `Hello, ${name}!` };
}

exports.main = main;
