// performance: the clock begins with the instance.
const entries = [];
export function wake() {
  origin = native.now();
  originTime = Date.now();
}
export const performance = {
  now: () => (native.now() - native.started()) / 1e6,
  get timeOrigin() { return Date.now() - performance.now(); },
  mark(name, options) {
    const entry = { name: String(name), entryType: 'mark', startTime: options?.startTime ?? performance.now(), duration: 0, detail: options?.detail ?? null };
    entries.push(entry);
    return entry;
  },
  measure(name, start, end) {
    const at = (mark) => (typeof mark === 'number' ? mark : entries.findLast((entry) => entry.name === mark)?.startTime);
    const from = at(start?.start ?? start) ?? 0;
    const entry = { name: String(name), entryType: 'measure', startTime: from, duration: (at(start?.end ?? end) ?? performance.now()) - from, detail: null };
    entries.push(entry);
    return entry;
  },
  getEntries: () => [...entries],
  getEntriesByName: (name) => entries.filter((entry) => entry.name === name),
  getEntriesByType: (type) => entries.filter((entry) => entry.entryType === type),
  clearMarks() { entries.length = 0; },
  clearMeasures() { entries.length = 0; },
  timerify: (call) => call,
  eventLoopUtilization: () => ({ idle: 0, active: 0, utilization: 0 }),
  toJSON: () => ({ timeOrigin: performance.timeOrigin }),
};
