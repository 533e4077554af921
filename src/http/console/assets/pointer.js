// Finding the place in a JSON text that a JSON pointer (RFC 6901) names.

const SPACE = /[ \t\r\n]*/y;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const WORD = /[^\s,\]}:"]+/y;

/** Where a value begins and ends in the text; none where the text has no such value. */
export function locate(text, pointer) {
  const names = pointer.split("/").slice(1).map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  let at = 0;
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found?.[0];
  };
  const next = (sign) => {
    take(SPACE);
    const is = text[at] === sign;
    if (is) at += 1;
    return is;
  };
  let result;
  // Reads the value here; `depth` names of the pointer led to it, or it is none that is wanted.
  const read = (depth) => {
    take(SPACE);
    const begin = at;
    const wanted = (name) => (depth !== undefined && depth < names.length && names[depth] === name ? depth + 1 : undefined);
    const items = (close, name) => {
      for (let index = 0; !next(close); index += 1) {
        if (at >= text.length) return;
        read(wanted(name(index)));
        next(",");
      }
    };
    if (next("{")) {
      items("}", () => {
        take(SPACE);
        const said = take(STRING);
        next(":");
        return said === undefined ? (at += 1) && "" : JSON.parse(said);
      });
    } else if (next("[")) {
      items("]", String);
    } else if (take(STRING) === undefined && take(WORD) === undefined) {
      at += 1;
    }
    if (depth === names.length) result = { begin, end: at };
  };
  read(0);
  return result;
}

/** The line of a place, from 1 on. */
export const line = (text, at) => text.slice(0, at).split("\n").length;
