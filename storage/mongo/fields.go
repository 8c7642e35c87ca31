package mongo

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The collections.
const (
	resources = "resources"
	keys      = "keys"
	rows      = "rows"
	clients   = "clients"
	tokens    = "tokens"
	tenants   = "tenants"
	counters  = "counters"
	meta      = "meta"
	items     = "items"
)

// The fields. They are short because every document carries them.
const (
	fID     = "_id"
	fTenant = "t"

	// Of a resource.
	fType     = "y" // "User"; "User deleted" once it is
	fResource = "id"
	fVersion  = "v"
	fCreated  = "c" // milliseconds since 1970, as all times
	fModified = "m"
	fName     = "n"
	fDoc      = "d" // the SCIM JSON as it is returned
	fShadow   = "s" // what filters look at; see storage.Derive
	fKeys     = "k" // "attribute=value" of unique and indexed attributes
	fUnique   = "u" // how many of those, from the first on, are unique
	fGrouped  = "g" // true once it has been a direct member of a group
	fDeleted  = "x" // when
	fLock     = "l" // moves so that two writes meet here; see tx.lock
	fStamp    = "q" // that of the last write that gave it a version; see stamps

	// Of a key.
	fOwner = "r" // the resource's id

	// Of a row. A membership has the member, a group and perhaps a display; an
	// entry of the audit trail has a number and what happened. They share an
	// index, so they share its fields.
	fKind       = "k" // the member; "#" for an entry with a number, "w" for one that waits for it
	fNumber     = "q" // the number, or the stamp that decides the order of waiting entries
	fGroup      = "g"
	fDisplay    = "d"
	fAt         = "at"
	fRequest    = "r"
	fActor      = "a"
	fAction     = "c"
	fAttributes = "l"
	fFrom       = "f"
	fLevel      = "lv"
	fChanges    = "ch" // as storage.AppendChanges writes them
	fChain      = "hc"
	fLink       = "hn" // its number in the chain
	fSum        = "hs" // its hash

	// Of a client or token.
	fScopes   = "s"
	fProfile  = "p"
	fRefers   = "rf" // not there in what older versions stored
	fNetworks = "w"
	fRate     = "rt" // absent in documents of older versions, as 0
	fBurst    = "bu"
	fRevoked  = "x" // 0 while it may be used
	fClient   = "c"
	fHash     = "h"
	fBegan    = "b"
	fExpires  = "e"
	fUsed     = "l"
	fLoad     = "ld" // of the mark of a load only: the id of the dump
	fMeeting  = "m"  // moves so that two writes meet here

	// Of an item, which has an id, a version, a type (its kind) and a document
	// (its data) as a resource does. It expires, unless this is 0, as a token does.
	fFound = "k" // "kind/key" for each of its keys, and for the empty one

	// Of a tenant's counter, and of the schema.
	fLast   = "n"
	fSchema = "v"
	fOldest = "o" // the version that some documents may still be of; absent when none is
)

// What fKind of an entry of the audit trail is. Ids of members look different.
const (
	numbered = "#"
	waiting  = "w"
)

// memberTypes are the resource types a member may have, and deletedMemberTypes what
// becomes of them.
var (
	memberTypes        = bson.A{"User", groupType}
	deletedMemberTypes = bson.A{deletedType("User"), deletedType(groupType)}
)

const groupType = "Group"

// epochType is the type of the document that counts a tenant's epochs. It is among
// the resources so that one find reads it with the resource to be changed.
const epochType = "!epoch"

func epochID(tenant string) string { return key(tenant, epochType) }

// deletedType is the type under which deleted resources of a type are kept. No
// schema can name a type with a space.
func deletedType(typ string) string { return typ + " deleted" }

// liveType is deletedType the other way round, and reports whether it was one.
func liveType(typ string) (live string, deleted bool) {
	return strings.CutSuffix(typ, deletedType(""))
}

// key joins the parts of an _id so that different parts never make the same.
// Only the last may contain a slash of its own.
func key(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		if i < len(parts)-1 {
			if strings.ContainsAny(p, "/%") {
				p = escapePart.Replace(p)
			}
			b.WriteString(p)
			b.WriteByte('/')
			continue
		}
		b.WriteString(p)
	}
	return b.String()
}

var escapePart = strings.NewReplacer("%", "%25", "/", "%2F")

// rowsOf is the beginning of the _ids of a group's memberships.
func rowsOf(tenant, group string) string { return key(tenant, "m", group, "") }

// within selects the _ids that begin with a prefix ending in a slash and are
// greater than after, which begins with it too or is empty.
func within(tenant, prefix, after string) bson.D {
	end := prefix[:len(prefix)-1] + "0" // the character after the slash
	if after == "" {
		after = prefix
	}
	return d(fTenant, tenant, fID, d("$gt", after, "$lt", end))
}

// byID selects a document. The tenant in it says nothing that the _id does not; it
// leads a sharded cluster to one shard.
func byID(tenant, id string) bson.D { return d(fID, id, fTenant, tenant) }

func byIDs(tenant string, ids bson.A) bson.D { return d(fID, d("$in", ids), fTenant, tenant) }

// prefixed are the _ids that a prefix ending in a slash makes of ids.
func prefixed(prefix string, ids []string) bson.A {
	list := make(bson.A, len(ids))
	for i, id := range ids {
		list[i] = prefix + id
	}
	return list
}

// liveByID selects a resource of a type, or of one of several.
func liveByID(tenant, id string, types any) bson.D {
	return d(fID, key(tenant, id), fTenant, tenant, fType, types)
}

// clientName is the unique key of a client's name. No resource type begins with
// a number sign.
func clientName(tenant, name string) string { return key(tenant, "#client", "name="+name) }

// d is a document written as names and values in turn.
func d(pairs ...any) bson.D {
	out := make(bson.D, 0, len(pairs)/2)
	for i := 1; i < len(pairs); i += 2 {
		out = append(out, bson.E{Key: pairs[i-1].(string), Value: pairs[i]})
	}
	return out
}
