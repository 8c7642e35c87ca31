// Run by mongosh: makes a replica set of mongo1, mongo2 and mongo3, and Roster's
// user in it. What is there already is left as it is, except the user's password.
const fs = require("fs");
const secret = (name) => fs.readFileSync("/run/secrets/" + name, "utf8").trim();
const as = "mongodb://root:" + secret("mongo_root_password") + "@";

const first = new Mongo(as + "mongo1/admin?directConnection=true").getDB("admin");
try {
  first.adminCommand({ replSetGetStatus: 1 });
} catch (e) {
  if (e.codeName !== "NotYetInitialized") throw e;
  first.adminCommand({
    replSetInitiate: {
      _id: "rs0",
      members: [1, 2, 3].map((n) => ({ _id: n, host: "mongo" + n + ":27017" })),
    },
  });
}

// This waits until there is a primary.
const client = new Mongo(as + "mongo1,mongo2,mongo3/admin?replicaSet=rs0");
const admin = client.getDB("admin");
// Roster reads the cluster's defaults back at start; no small role allows it.
if (!admin.getRole("readDefaults")) {
  admin.createRole({
    role: "readDefaults",
    privileges: [{ resource: { cluster: true }, actions: ["getDefaultRWConcern"] }],
    roles: [],
  });
}
const roster = client.getDB("roster");
const user = {
  pwd: secret("db_password"),
  roles: [
    { role: "readWrite", db: "roster" },
    { role: "readDefaults", db: "admin" },
  ],
};
if (roster.getUser("roster")) {
  roster.updateUser("roster", user);
} else {
  roster.createUser({ user: "roster", ...user });
}
print("The replica set rs0 and the user roster are ready.");
