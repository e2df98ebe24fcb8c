// JSON for actions: values, read from text and written to it. Keys keep their order; the last of two equal ones counts.

// Deepest nesting that is read: the stack of a call is finite.
const DEPTH_MAX = 256;

export enum Kind {
  Absent,
  Null,
  Bool,
  Number,
  Text,
  Array,
  Object,
}

export class Value {
  kind: Kind = Kind.Absent;
  number: f64 = 0;
  string: string = "";
  keys: string[] = [];
  items: Value[] = [];

  /** A value of a `bool`, a number, a `string` or another value. */
  static of<T>(from: T): Value {
    const value = new Value();
    if (isBoolean<T>()) {
      value.kind = Kind.Bool;
      value.number = from ? 1 : 0;
    } else if (isInteger<T>() || isFloat<T>()) {
      value.kind = Kind.Number;
      value.number = <f64>from;
    } else if (isString<T>()) {
      value.kind = Kind.Text;
      value.string = <string>from;
    } else {
      ERROR("only booleans, numbers and strings become values by `of`");
    }
    return value;
  }

  static null(): Value {
    const value = new Value();
    value.kind = Kind.Null;
    return value;
  }

  static object(): Value {
    const value = new Value();
    value.kind = Kind.Object;
    return value;
  }

  static array(): Value {
    const value = new Value();
    value.kind = Kind.Array;
    return value;
  }

  /** A field of an object; `Absent` when there is none. */
  get(key: string): Value {
    for (let i = this.keys.length - 1; i >= 0; i--) if (this.keys[i] == key) return this.items[i];
    return new Value();
  }

  /** An item of an array; `Absent` when there is none. */
  at(index: i32): Value {
    return this.kind == Kind.Array && index >= 0 && index < this.items.length ? this.items[index] : new Value();
  }

  /** Sets a field. */
  set(key: string, value: Value): Value {
    const at = this.keys.lastIndexOf(key);
    if (at >= 0) {
      this.items[at] = value;
    } else {
      this.keys.push(key);
      this.items.push(value);
    }
    return this;
  }

  /** Adds an item. */
  push(value: Value): Value {
    this.items.push(value);
    return this;
  }

  /** A text, or `otherwise` when it is none. */
  text(otherwise: string): string {
    return this.kind == Kind.Text ? this.string : otherwise;
  }

  /** A number, or `otherwise` when it is none. */
  float(otherwise: f64): f64 {
    return this.kind == Kind.Number ? this.number : otherwise;
  }

  /** A boolean, or `otherwise` when it is none. */
  bool(otherwise: bool): bool {
    return this.kind == Kind.Bool ? this.number != 0 : otherwise;
  }

  toString(): string {
    const parts: string[] = [];
    this.write(parts);
    return parts.join("");
  }

  private write(to: string[]): void {
    switch (this.kind) {
      case Kind.Bool:
        to.push(this.number != 0 ? "true" : "false");
        return;
      case Kind.Number:
        to.push(digits(this.number));
        return;
      case Kind.Text:
        quote(this.string, to);
        return;
      case Kind.Array:
        to.push("[");
        for (let i = 0; i < this.items.length; i++) {
          if (i) to.push(",");
          this.items[i].write(to);
        }
        to.push("]");
        return;
      case Kind.Object:
        to.push("{");
        for (let i = 0; i < this.items.length; i++) {
          if (i) to.push(",");
          quote(this.keys[i], to);
          to.push(":");
          this.items[i].write(to);
        }
        to.push("}");
        return;
      default:
        to.push("null");
    }
  }
}

function digits(number: f64): string {
  if (!isFinite(number)) return "null";
  if (Math.trunc(number) == number && Math.abs(number) < 9007199254740992) return (<i64>number).toString();
  return number.toString();
}

function quote(text: string, to: string[]): void {
  to.push('"');
  let plain = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
    to.push(text.substring(plain, i));
    plain = i + 1;
    if (c >= 0x20) {
      to.push("\\" + String.fromCharCode(c));
    } else {
      to.push("\\u00" + (c < 16 ? "0" : "") + c.toString(16));
    }
  }
  to.push(text.substring(plain));
  to.push('"');
}

/** Reads JSON text; traps on what is none, which the host never sends. */
export function parse(text: string): Value {
  return new Reader(text).value(0);
}

class Reader {
  at: i32 = 0;

  constructor(private text: string) {}

  value(depth: i32): Value {
    assert(depth < DEPTH_MAX, "JSON is nested too deeply");
    const c = this.next();
    if (c == 0x7b || c == 0x5b) return this.items(c == 0x7b, depth);
    if (c == 0x22) return Value.of(this.quoted());
    const begin = this.at - 1;
    while (this.at < this.text.length && this.isPlain(this.text.charCodeAt(this.at))) this.at++;
    const word = this.text.substring(begin, this.at);
    if (word == "true" || word == "false") return Value.of(word == "true");
    if (word == "null") return Value.null();
    const number = parseFloat(word);
    assert(!isNaN(number), "no JSON: " + word);
    return Value.of(number);
  }

  private items(object: bool, depth: i32): Value {
    const value = object ? Value.object() : Value.array();
    const end = object ? 0x7d : 0x5d;
    let c = this.next();
    if (c == end) return value;
    this.at--;
    do {
      if (object) {
        assert(this.next() == 0x22, "no JSON: a key is missing");
        const key = this.quoted();
        assert(this.next() == 0x3a, "no JSON: a colon is missing");
        value.set(key, this.value(depth + 1));
      } else {
        value.push(this.value(depth + 1));
      }
      c = this.next();
    } while (c == 0x2c);
    assert(c == end, "no JSON: a bracket is missing");
    return value;
  }

  /** The next character that is no space. */
  private next(): i32 {
    while (this.at < this.text.length) {
      const c = this.text.charCodeAt(this.at++);
      if (c > 0x20) return c;
    }
    return 0;
  }

  private isPlain(c: i32): bool {
    return c > 0x20 && c != 0x2c && c != 0x5d && c != 0x7d;
  }

  /** The rest of a string, behind its first quote. */
  private quoted(): string {
    const parts: string[] = [];
    let plain = this.at;
    while (this.at < this.text.length) {
      const c = this.text.charCodeAt(this.at++);
      if (c == 0x22) {
        const last = this.text.substring(plain, this.at - 1);
        if (parts.length == 0) return last;
        parts.push(last);
        return parts.join("");
      }
      if (c != 0x5c) continue;
      parts.push(this.text.substring(plain, this.at - 1));
      const escape = this.text.charCodeAt(this.at++);
      if (escape == 0x75) {
        parts.push(String.fromCharCode(<i32>parseInt(this.text.substring(this.at, this.at + 4), 16)));
        this.at += 4;
      } else {
        parts.push(unescaped(escape));
      }
      plain = this.at;
    }
    assert(false, "no JSON: a string does not end");
    return "";
  }
}

function unescaped(escape: i32): string {
  switch (escape) {
    case 0x62:
      return "\b";
    case 0x66:
      return "\f";
    case 0x6e:
      return "\n";
    case 0x72:
      return "\r";
    case 0x74:
      return "\t";
    default:
      return String.fromCharCode(escape);
  }
}
