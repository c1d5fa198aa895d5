// Work in small pieces: at most a few milliseconds of script a frame, however many photos there are.

const FRAME_BUDGET_MS = 4;

class FrameQueue {
  constructor() {
    this.jobs = new Map();
    this.waiting = false;
  }

  // Runs `job` in a coming frame; a later job of the same key takes its place in the queue.
  add(key, job) {
    this.jobs.set(key, job);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.run());
  }

  run() {
    const start = performance.now();
    for (const [key, job] of this.jobs) {
      this.jobs.delete(key);
      job();
      if (performance.now() - start > FRAME_BUDGET_MS) break;
    }
    this.waiting = this.jobs.size > 0;
    if (this.waiting) requestAnimationFrame(() => this.run());
  }
}
