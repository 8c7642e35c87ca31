// Package mongo keeps Roster's data in a MongoDB replica set or sharded cluster,
// so that any number of Roster processes share one database.
//
// [Open] (start.go) connects, refuses a server or settings that would promise
// less than a majority of the members, and prepares collections and indexes. A
// read is one find, or a few in one snapshot: read.go for resources, filter.go
// for what a SCIM filter becomes, scan.go for what MongoDB cannot answer alone,
// members.go for groups, items.go, audit.go, clients.go, and dump.go for a tenant
// whole. A write is a multi-document transaction: write.go runs it and repeats it,
// turns.go keeps writers out of each other's way, tx.go says what it may do, and
// orphans.go ends what a lost connection left open.
//
// # Documents
//
// Every _id, every index and every query begins with the tenant. The exceptions are
// tokens, because a token identifies its tenant, expired items, which are removed for
// all tenants at once, and meta, which belongs to none. So a request of one tenant
// touches one shard if the collections are sharded by {t: 1, _id: 1}. An _id consists
// of its parts joined by slashes (see key), so it can be built without a query, and
// nothing else needs to be unique. This also works on a sharded cluster, where equal
// _ids are on one shard. fields.go lists the fields.
//
//	resources  tenant/id                          a SCIM resource with its search shadow
//	keys       tenant/type/attribute=value        a unique value and whose it is
//	items      tenant/kind/id                     an item
//	           tenant/!load/                      that a dump is being loaded
//	rows       tenant/m/group/member              a membership
//	           tenant/a/stamp/process             an entry of the audit trail
//	clients    tenant/id                          a provisioning client
//	           tenant/!load/                      how far the load of a dump has come
//	tokens     id                                 a token of one
//	tenants    tenant
//	counters   tenant                             the last number given in the audit trail
//	           tenant/guard/name                  where those who hold a Guard meet
//	meta       "schema", "ping"                   the version of all this; what Ping writes
//
// Memberships and audit entries share a collection because nearly every change
// of a group writes both: one command instead of two.
//
// No document grows with the size of a group, and no two writers that change
// different resources write to the same document.
//
// # Deletion
//
// A deleted resource stays, under a type that no request asks for ("User deleted"), so
// that indexes need not be partial to leave it out; only the index that lists deleted
// resources is partial. Its unique keys are removed at once. Its memberships stay but
// are not shown, because reading a membership reads the resources at both ends, too.
// deleted.go restores it, or removes it for good.
package mongo
