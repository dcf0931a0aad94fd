// MessagePack, as much of it as voice needs: what clients send, and everything that servers send.

/** Nothing that a voice server sends is nested deeper. */
const DEPTH_MAX = 16;

/** Numbers (whole, up to 32 bits, or doubles), texts, bytes, lists, maps, booleans and null in bytes. */
export function pack(value) {
  const out = [];
  write(out, value);
  return Uint8Array.from(out);
}

function write(out, value) {
  if (value === null || value === undefined) out.push(0xc0);
  else if (typeof value === 'boolean') out.push(value ? 0xc3 : 0xc2);
  else if (typeof value === 'number') number(out, value);
  else if (typeof value === 'string') {
    const bytes = new TextEncoder().encode(value);
    if (bytes.length < 32) out.push(0xa0 | bytes.length);
    else head(out, bytes.length, 0xd9);
    for (const byte of bytes) out.push(byte);
  } else if (value instanceof Uint8Array) {
    head(out, value.length, 0xc4);
    for (const byte of value) out.push(byte);
  } else if (Array.isArray(value)) {
    if (value.length < 16) out.push(0x90 | value.length);
    else out.push(0xdc, value.length >> 8, value.length & 0xff);
    for (const item of value) write(out, item);
  } else {
    const members = Object.entries(value);
    if (members.length < 16) out.push(0x80 | members.length);
    else out.push(0xde, members.length >> 8, members.length & 0xff);
    for (const [name, item] of members) {
      write(out, name);
      write(out, item);
    }
  }
}

function number(out, value) {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** 32) {
    if (value < 128) out.push(value);
    else head(out, value, 0xcc);
    return;
  }
  const bytes = new Uint8Array(9);
  bytes[0] = 0xcb;
  new DataView(bytes.buffer).setFloat64(1, value);
  out.push(...bytes);
}

/** A mark and a number in one, two or four bytes: the marks of the three follow each other. */
function head(out, value, mark) {
  if (value < 2 ** 8) out.push(mark, value);
  else if (value < 2 ** 16) out.push(mark + 1, value >> 8, value & 0xff);
  else out.push(mark + 2, value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

/** The value in these bytes; throws when they are not exactly one. */
export function unpack(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  if (reader.at !== bytes.length) throw new Error('bytes are left over');
  return value;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  value(depth) {
    if (depth > DEPTH_MAX) throw new Error('nested too deep');
    const mark = this.whole(1);
    if (mark < 0x80) return mark;
    if (mark >= 0xe0) return mark - 0x100;
    if (mark < 0x90) return this.map(mark & 0x0f, depth);
    if (mark < 0xa0) return this.list(mark & 0x0f, depth);
    if (mark < 0xc0) return this.text(mark & 0x1f);
    switch (mark) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.take(this.whole(1 << (mark - 0xc4)));
      case 0xca: return this.view.getFloat32(this.skip(4));
      case 0xcb: return this.view.getFloat64(this.skip(8));
      case 0xcc: case 0xcd: case 0xce: return this.whole(1 << (mark - 0xcc));
      case 0xcf: return Number(this.view.getBigUint64(this.skip(8)));
      case 0xd0: return this.view.getInt8(this.skip(1));
      case 0xd1: return this.view.getInt16(this.skip(2));
      case 0xd2: return this.view.getInt32(this.skip(4));
      case 0xd3: return Number(this.view.getBigInt64(this.skip(8)));
      case 0xd9: case 0xda: case 0xdb: return this.text(this.whole(1 << (mark - 0xd9)));
      case 0xdc: case 0xdd: return this.list(this.whole(2 << (mark - 0xdc)), depth);
      case 0xde: case 0xdf: return this.map(this.whole(2 << (mark - 0xde)), depth);
      default: throw new Error('not a value that voice servers send');
    }
  }

  skip(length) {
    if (this.at + length > this.bytes.length) throw new Error('the bytes end too early');
    this.at += length;
    return this.at - length;
  }

  whole(length) {
    const at = this.skip(length);
    return length === 1 ? this.view.getUint8(at) : length === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  take(length) {
    const at = this.skip(length);
    return this.bytes.slice(at, at + length);
  }

  text(length) {
    return new TextDecoder().decode(this.take(length));
  }

  list(length, depth) {
    const items = [];
    for (let at = 0; at < length; at += 1) items.push(this.value(depth + 1));
    return items;
  }

  map(length, depth) {
    const members = new Map();
    for (let at = 0; at < length; at += 1) {
      const name = this.value(depth + 1);
      members.set(String(name), this.value(depth + 1));
    }
    return Object.fromEntries(members);
  }
}
