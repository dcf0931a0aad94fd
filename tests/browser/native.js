// Runs inside Chromium: a client that speaks docs/webtransport.md, as small as it gets. One page is one client.
import { Packr, unpack } from 'msgpackr';

const { pack } = new Packr({ useRecords: false });
const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
const N = (window.N = { heard: {}, events: [], sent: 0, ready: true });

// Frames of a stream: four bytes of length, then so many bytes.
class Stream {
  static async open(session) {
    const { readable, writable } = await session.createBidirectionalStream();
    const stream = new Stream();
    stream.reader = readable.getReader();
    stream.writer = writable.getWriter();
    stream.buffer = new Uint8Array();
    stream.calls = new Map();
    stream.id = 0;
    return stream;
  }
  async write(frame) {
    const whole = new Uint8Array(4 + frame.length);
    new DataView(whole.buffer).setUint32(0, frame.length);
    whole.set(frame, 4);
    await this.writer.write(whole);
  }
  async frame() {
    for (;;) {
      if (this.buffer.length >= 4) {
        const length = new DataView(this.buffer.buffer, this.buffer.byteOffset).getUint32(0);
        if (this.buffer.length >= 4 + length) {
          const frame = this.buffer.slice(4, 4 + length);
          this.buffer = this.buffer.slice(4 + length);
          return frame;
        }
      }
      const { value, done } = await this.reader.read();
      if (done) return null;
      const joined = new Uint8Array(this.buffer.length + value.length);
      joined.set(this.buffer);
      joined.set(value, this.buffer.length);
      this.buffer = joined;
    }
  }
  async run(notified) {
    for (let frame; (frame = await this.frame()); ) {
      const message = unpack(frame);
      if (message[0] === 1) {
        const call = this.calls.get(message[1]);
        this.calls.delete(message[1]);
        message[2] === null ? call.resolve(message[3]) : call.reject(new Error(message[2]));
      } else notified(message[1], message[2]);
    }
  }
  call(method, params) {
    const id = this.id++;
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.write(pack([0, id, method, params])).catch(reject);
    });
  }
}

// Voice packets: [1, [media], sequence, timestamp, flags, opus].
async function listen(session) {
  const reader = session.datagrams.readable.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const [, [media], sequence] = unpack(value);
    const heard = (N.heard[media] ??= { packets: 0, bytes: 0, sequences: [], first: performance.now() });
    heard.packets++;
    heard.bytes += value.length;
    heard.sequences.push(sequence);
    heard.last = performance.now();
  }
}

async function join({ address, hash, token, room, user }) {
  const session = new WebTransport(`https://${address}/main`, {
    serverCertificateHashes: [{ algorithm: 'sha-256', value: bytes(hash) }],
  });
  await session.ready;
  N.session = session;
  session.closed.then((end) => (N.closed = end), (error) => (N.closed = String(error)));
  const main = await Stream.open(session);
  main.run(() => {}).catch(() => {});
  await main.call('Authenticate', { token });
  const { stream_id } = await main.call('JoinRoom', { room_id: room, user_data: new TextEncoder().encode(user), position: [0, 0, 0] });
  const stream = await Stream.open(session);
  await stream.write(new TextEncoder().encode(stream_id));
  const joined = new Promise((resolve) => {
    stream.run((method, params) => {
      for (const update of params.updates ?? [params]) {
        N.events.push(update.kind ?? method);
        if (update.kind === 'Joined') resolve(update);
      }
    }).catch(() => {});
  });
  const { own_peer_id, media_ids } = await joined;
  N.media = media_ids[0];
  await stream.call('StartMedia', { media_id: N.media, properties: {} });
  listen(session).catch(() => {});
  return { peer: own_peer_id, media: N.media, datagramBytes: session.datagrams.maxDatagramSize };
}

// Fifty packets a second; timers of pages are late, so each tick sends what is due.
function talk() {
  const writer = N.session.datagrams.writable.getWriter();
  const began = performance.now();
  const opus = new Uint8Array(62).fill(0x78);
  N.timer = setInterval(() => {
    for (; N.sent < (performance.now() - began) / 20; N.sent++) {
      writer.write(pack([1, [N.media], N.sent, N.sent * 1800, 0, opus])).catch(() => {});
    }
  }, 10);
}

N.join = join;
N.talk = talk;
N.silence = () => clearInterval(N.timer);
N.leave = () => N.session.close({ closeCode: 0, reason: 'bye' });
