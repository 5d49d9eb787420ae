/* Search runs in a worker, which browsers start from no file on disk. There a hidden frame does its work. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.inner = new Promise((ready) => {
        frame.onload = () => {
          frame.onload = null;
          const inner = frame.contentWindow;
          inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          const script = inner.document.createElement("script");
          script.src = new URL(url, location.href);
          script.onload = () => ready(inner);
          inner.document.body.append(script);
        };
      });
      frame.srcdoc = "<!doctype html><body>";
      document.body.append(frame);
      this.frame = frame;
    }

    async postMessage(data) {
      const inner = await this.inner;
      inner.dispatchEvent(new MessageEvent("message", { data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
