// Reads [{"resource": {...}, "operations": [...]}, ...] and writes what the package scim-patch
// makes of each: {"resource": {...}} or {"error": "..."}.
const { scimPatch } = require("scim-patch");
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(cases.map(({ resource, operations }) => {
  try {
    return { resource: scimPatch(resource, operations, { mutateDocument: false }) };
  } catch (e) {
    return { error: e.scimCode || e.message || "error" };
  }
})));
