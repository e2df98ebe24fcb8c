// node:os: a small machine that nobody can tell from another.
const cpu = { model: 'wasm', speed: 0, times: { user: 0, nice: 0, sys: 0, idle: 0, irq: 0 } };
const signals = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGABRT: 6, SIGKILL: 9, SIGTERM: 15 };
const os = {
  EOL: '\n', devNull: '/dev/null', arch: () => 'wasm32', platform: () => 'linux', type: () => 'Linux', release: () => '1', version: () => 'wisp', machine: () => 'wasm32',
  endianness: () => 'LE', hostname: () => 'action', homedir: () => '/tmp', tmpdir: () => '/tmp', uptime: () => native.now() / 1e9,
  loadavg: () => [0, 0, 0], totalmem: () => 4 * 2 ** 30, freemem: () => 2 ** 30, cpus: () => [cpu], availableParallelism: () => 1, networkInterfaces: () => ({}),
  userInfo: () => ({ uid: 0, gid: 0, username: 'action', homedir: '/tmp', shell: null }), constants: { signals, errno: {}, priority: {} },
  getPriority: () => 0, setPriority() {},
};
export default os;
