// A value to begin with for a schema: what it requires, with the plainest values.

/** How deep it goes: a schema may contain itself. */
const DEPTH = 6;

export function example(schema, depth = 0) {
  if (schema === null || typeof schema !== "object" || depth > DEPTH) return null;
  for (const given of [schema.const, schema.default, schema.examples?.[0], schema.enum?.[0]]) {
    if (given !== undefined) return given;
  }
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  switch (type ?? (schema.properties || schema.required ? "object" : undefined)) {
    case "object": {
      const names = schema.required ?? [];
      return Object.fromEntries(names.map((name) => [name, example(schema.properties?.[name] ?? {}, depth + 1)]));
    }
    case "array": return Array.from({ length: schema.minItems ?? 0 }, () => example(schema.items ?? {}, depth + 1));
    case "string": return "";
    case "integer": return Math.ceil(schema.minimum ?? 0);
    case "number": return schema.minimum ?? 0;
    case "boolean": return false;
    case "null": return null;
    default: return depth === 0 ? {} : null;
  }
}
