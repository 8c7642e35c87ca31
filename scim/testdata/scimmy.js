// A server of Users and Groups in memory, made of the packages scimmy and scimmy-routers, for TestScimmy.
// It listens on a free port of 127.0.0.1, writes the address of its SCIM root in a line, and ends with its standard input.
// Filters, sorting, paging, PATCH, schemas and errors are scimmy's; that which scimmy leaves to a store is here: ids,
// times, user names that are taken, what is said of members, and that the groups of a user are those it is a member of.
const express = require("express");
const SCIMMY = require("scimmy").default ?? require("scimmy");
const SCIMMYRouters = require("scimmy-routers").default ?? require("scimmy-routers");

const { User, Group } = SCIMMY.Resources;
const stores = { User: new Map(), Group: new Map() };
let last = 0;

const missing = (id) => new SCIMMY.Types.Error(404, null, `Resource ${id} not found`);

// The groups something is in, and those that these are in.
const groupsOf = (id, type = "direct", seen = new Set()) => {
  const next = [...stores.Group.values()].filter((g) => !seen.has(g.id) && (g.members ?? []).some((m) => m.value === id));
  next.forEach((g) => seen.add(g.id));
  return next.map((g) => ({ value: g.id, display: g.displayName, type, $ref: `/scim/Groups/${g.id}` }))
    .concat(...next.map((g) => groupsOf(g.id, "indirect", seen)));
};

// What it says about a member, other than who it is.
const member = (m) => {
  const [name, r] = stores.User.has(m.value) ? ["User", stores.User.get(m.value)] : ["Group", stores.Group.get(m.value)];
  return { ...m, type: name, display: r?.displayName ?? r?.userName, $ref: `/scim/${name}s/${m.value}` };
};

function declare(Resource, name, seen, check) {
  const store = stores[name];
  SCIMMY.Resources.declare(Resource, {
    egress: (resource) => {
      if (!resource.id) {
        const all = [...store.values()].map(seen);
        return resource.filter ? resource.filter.match(all) : all;
      }
      if (!store.has(resource.id)) throw missing(resource.id);
      return seen(store.get(resource.id));
    },
    ingress: (resource, data) => {
      const before = store.get(resource.id);
      if (resource.id && !before) throw missing(resource.id);
      const id = resource.id ?? `${name.toLowerCase()}-${String(++last).padStart(6, "0")}`;
      const next = JSON.parse(JSON.stringify(data));
      check(id, next);
      const now = new Date().toISOString();
      next.id = id;
      next.meta = { resourceType: name, created: before?.meta.created ?? now, lastModified: now };
      store.set(id, next);
      return seen(next);
    },
    degress: (resource) => {
      if (!store.delete(resource.id)) throw missing(resource.id);
      for (const g of stores.Group.values()) {
        g.members = g.members?.filter((m) => m.value !== resource.id);
        if (!g.members?.length) delete g.members;
      }
    },
  });
}

User.extend(SCIMMY.Schemas.EnterpriseUser, false);
declare(User, "User", (u) => {
  const groups = groupsOf(u.id);
  return groups.length ? { ...u, groups } : u;
}, (id, next) => {
  for (const u of stores.User.values()) {
    if (u.id !== id && u.userName.toLowerCase() === next.userName.toLowerCase()) {
      throw new SCIMMY.Types.Error(409, "uniqueness", "userName is taken");
    }
  }
});
declare(Group, "Group", (g) => (g.members?.length ? { ...g, members: g.members.map(member) } : g), () => {});

const app = express();
app.use("/scim", new SCIMMYRouters({ type: "bearer", handler: () => {} }));
const server = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/scim`));
process.stdin.resume().on("end", () => process.exit(0));
