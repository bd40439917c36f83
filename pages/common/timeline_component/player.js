// The clock of the timeline: the page's own video player, found by the key of its container, or without a
// video a clock that runs by itself. Reports every change of time; while it plays, with every frame.

const REWINDS = 2000; // ms after a video is ready in which st.video may still rewind it
const MEDIA_EVENTS = ["timeupdate", "seeking", "seeked", "play", "pause", "ended", "loadedmetadata"];

class Player {
  constructor(onTime) {
    this.onTime = onTime;
    this.key = null;      // of the container that holds the video
    this.duration = 0;    // seconds
    this.time = 0;        // seconds
    this.asked = null;    // where a link asked to go, held until the video has settled
    this.next = undefined; // where to go once the present seek is done; dragging asks faster than a video seeks
    this.started = null;  // without a video: {time, at} of the moment when play was pressed
    // Media events don't bubble, but they can be captured; so the player may come, go or be replaced.
    this.onMedia = (event) => { if (event.target === this.video()) this.heard(event); };
    for (const name of MEDIA_EVENTS) document.addEventListener(name, this.onMedia, true);
  }

  destroy() {
    for (const name of MEDIA_EVENTS) document.removeEventListener(name, this.onMedia, true);
    cancelAnimationFrame(this.frame);
  }

  /** Another video begins at 0; the same one goes on. */
  load(key, duration, same) {
    this.key = key;
    this.duration = duration;
    if (!same) {
      this.time = 0;
      this.started = null;
      this.asked = null;
    }
    this.follow();
  }

  video() {
    return this.key ? document.querySelector(`.st-key-${CSS.escape(this.key)} video`) : null;
  }

  get playing() {
    const video = this.video();
    return video ? !video.paused && !video.ended : this.started !== null;
  }

  seek(seconds) {
    this.asked = null;
    this.time = clamp(seconds, 0, this.duration);
    if (this.started) this.started = { time: this.time, at: performance.now() };
    const video = this.video();
    if (video && video.readyState >= 1) {
      if (video.seeking) this.next = this.time;
      else video.currentTime = this.time;
    } else if (video) {
      const wanted = this.time; // st.video rewinds once its metadata is there; go after it
      const later = () => setTimeout(() => { video.currentTime = wanted; });
      video.addEventListener("loadedmetadata", later, { once: true });
    }
    this.onTime();
  }

  /** As `seek`, and stay there although the video may appear late and be rewound when it is ready. */
  seekAndHold(seconds) {
    this.seek(seconds);
    this.asked = { seconds: this.time, until: null };
  }

  toggle() {
    const video = this.video();
    if (video) {
      if (video.paused || video.ended) video.play().catch(() => {}); // refused: it stays paused, as it shows
      else video.pause();
    } else if (this.started) {
      this.started = null;
    } else {
      if (this.time >= this.duration) this.time = 0;
      this.started = { time: this.time, at: performance.now() };
    }
    this.follow();
  }

  heard(event) {
    if (event.type === "seeked" && this.next !== undefined) {
      event.target.currentTime = this.next;
      this.next = undefined;
    }
    this.follow();
  }

  /** Take the time from what plays; again with every frame as long as it does. */
  follow() {
    cancelAnimationFrame(this.frame);
    const video = this.video();
    if (video && video.readyState >= 1) {
      if (this.asked) this.hold(video);
      this.time = clamp(this.next ?? video.currentTime, 0, this.duration);
    } else if (!video && this.started) {
      this.time = this.started.time + (performance.now() - this.started.at) / 1000;
      if (this.time >= this.duration) {
        this.time = this.duration;
        this.started = null;
      }
    }
    if (this.playing) this.frame = requestAnimationFrame(() => this.follow());
    this.onTime();
  }

  hold(video) {
    this.asked.until ??= performance.now() + REWINDS;
    if (!video.paused || performance.now() > this.asked.until) {
      this.asked = null;
    } else if (Math.abs(video.currentTime - this.asked.seconds) > 0.1) {
      const wanted = this.asked.seconds;
      setTimeout(() => { video.currentTime = wanted; });
    }
  }
}
