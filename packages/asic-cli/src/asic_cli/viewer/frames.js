// Work in small pieces: a few milliseconds of script a frame, however many photos there are.

const FRAME_BUDGET_MS = 7;
const OPENING_BUDGET_MS = 30; // Before anybody can use the page it need not answer at once.

class FrameQueue {
  constructor() {
    this.jobs = new Map();
    this.lateJobs = new Map();
    this.waiting = false;
    this.budget = OPENING_BUDGET_MS;
  }

  // From now on frames are short.
  opened() {
    this.budget = FRAME_BUDGET_MS;
  }

  // Runs `job` in a coming frame; a later job of the same key takes its place.
  add(key, job) {
    this.lateJobs.delete(key);
    this.jobs.set(key, job);
    this.wait();
  }

  // Likewise, once nothing of `add` is left.
  addLate(key, job) {
    this.jobs.delete(key);
    this.lateJobs.set(key, job);
    this.wait();
  }

  // Resolves once all that was added so far has run.
  async finished() {
    await new Promise((resolve) => { this.addLate({}, resolve); });
  }

  wait() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.run());
  }

  // As many jobs as are likely to fit, each taken to last as long as the one before it.
  run() {
    const start = performance.now();
    let spent = 0;
    let last = 0;
    while (this.jobs.size + this.lateJobs.size > 0 && spent + last < this.budget) {
      const queue = this.jobs.size > 0 ? this.jobs : this.lateJobs;
      const [key, job] = queue.entries().next().value;
      queue.delete(key);
      job();
      last = performance.now() - start - spent;
      spent += last;
    }
    this.waiting = false;
    if (this.jobs.size + this.lateJobs.size > 0) this.wait();
  }
}
