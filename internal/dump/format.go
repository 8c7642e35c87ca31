package dump

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/storage"
)

// The format and its version. A change that an older reader would misread is a
// new version.
const (
	formatName    = "roster-dump"
	formatVersion = 1
)

// maxLine bounds a line. A resource is a megabyte at most, and members go in
// small portions.
const maxLine = 16 << 20

// Header is the first line.
type Header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Dump    string    `json:"dump"` // an id of its own
	Tenant  string    `json:"tenant"`
	Created time.Time `json:"created"`
	Product string    `json:"product"` // the version of Roster that made it
}

// Counts are what a dump holds.
type Counts struct {
	Tenants     int64 `json:"tenants"`
	Clients     int64 `json:"clients"`
	Tokens      int64 `json:"tokens"`
	Resources   int64 `json:"resources"`
	Deleted     int64 `json:"deleted"` // of the resources, those that are soft-deleted
	Memberships int64 `json:"memberships"`
	Items       int64 `json:"items"`
	Audit       int64 `json:"audit"`
}

// String writes the counts for people.
func (c Counts) String() string {
	return fmt.Sprintf("%s, %s, %s (%d deleted), %s, %s, %s", some(c.Clients, "client"), some(c.Tokens, "token"),
		some(c.Resources, "resource"), c.Deleted, some(c.Memberships, "membership"), some(c.Items, "item"), some(c.Audit, "audit entry"))
}

func some(n int64, what string) string {
	if n != 1 {
		if stem, ok := strings.CutSuffix(what, "y"); ok {
			what = stem + "ie"
		}
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

func (c *Counts) add(r storage.Record) {
	switch {
	case r.Tenant != nil:
		c.Tenants++
	case r.Client != nil:
		c.Clients++
	case r.Token != nil:
		c.Tokens++
	case r.Resource != nil:
		c.Resources++
		if !r.Resource.Deleted.IsZero() {
			c.Deleted++
		}
	case r.Members != nil:
		c.Memberships += int64(len(r.Members.Members))
	case r.Item != nil:
		c.Items++
	case r.Audit != nil:
		c.Audit++
	}
}

type trailer struct {
	Records Counts `json:"records"`
	SHA256  string `json:"sha256"` // in hexadecimal
}

type tenantLine struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

type clientLine struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Scopes     []string  `json:"scopes"`
	Profile    string    `json:"profile,omitempty"`
	References string    `json:"references,omitempty"`
	Networks   []string  `json:"networks,omitempty"`
	Rate       int       `json:"rate,omitzero"`
	Burst      int       `json:"burst,omitzero"`
	Created    time.Time `json:"created"`
	Revoked    time.Time `json:"revoked,omitzero"`
}

type tokenLine struct {
	ID       string    `json:"id"`
	Client   string    `json:"client"`
	Hash     []byte    `json:"hash"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

type resourceLine struct {
	Type         string    `json:"type"`
	ID           string    `json:"id"`
	Version      int64     `json:"version"`
	Created      time.Time `json:"created"`
	LastModified time.Time `json:"lastModified"`
	Deleted      time.Time `json:"deleted,omitzero"`
	// Doc stands last, so that it can be written as it is.
	Doc jsontext.Value `json:"doc,omitempty"`
}

type membersLine struct {
	Group   string       `json:"group"`
	Members []memberLine `json:"members"`
}

type memberLine struct {
	Value   string `json:"value"`
	Display string `json:"display,omitempty"`
}

type itemLine struct {
	Kind    string   `json:"kind"`
	ID      string   `json:"id"`
	Keys    []string `json:"keys,omitempty"`
	Version int64    `json:"version"`
	// Doc is the data. It stands last, as that of a resource does.
	Doc jsontext.Value `json:"doc,omitempty"`
}

type auditLine struct {
	Seq        int64     `json:"seq"`
	At         time.Time `json:"at"`
	RequestID  string    `json:"requestId,omitempty"`
	Actor      string    `json:"actor"`
	Action     string    `json:"action"`
	Type       string    `json:"type,omitempty"`
	ID         string    `json:"id,omitempty"`
	Version    int64     `json:"version,omitzero"`
	Attributes []string  `json:"attributes,omitempty"`
	From       string    `json:"from,omitempty"`
	Level      string    `json:"level,omitempty"`
	// Changes have values as text, because an encoder might write JSON in another
	// way, and the hash is over every byte.
	Changes []changeLine `json:"changes,omitempty"`
	Chain   string       `json:"chain,omitempty"`
	N       int64        `json:"n,omitzero"`
	Hash    []byte       `json:"hash,omitempty"`
}

type changeLine struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func (l auditLine) changes() []storage.Change {
	var list []storage.Change
	for _, c := range l.Changes {
		list = append(list, storage.Change{Path: c.Path, Before: []byte(c.Before), After: []byte(c.After)})
	}
	return list
}

func auditLineOf(e *storage.AuditEntry) auditLine {
	l := auditLine{e.Seq, e.At, e.RequestID, e.Actor, e.Action, e.Type, e.ID, e.Version, e.Attributes, e.From, e.Level, nil, e.Chain, e.N, e.Hash}
	for _, c := range e.Changes {
		l.Changes = append(l.Changes, changeLine{c.Path, string(c.Before), string(c.After)})
	}
	return l
}

// kind is a kind of line: what it is called, and how to read it. read reports
// whether all that has to be there is.
type kind struct {
	name     string
	expected string // what a line of it has to be
	read     func(jsontext.Value, storage.TenantID) (storage.Record, bool)
}

// kinds are in the order in which they come.
var kinds = []kind{
	{"tenant", "a tenant: name and created", reader(func(l tenantLine, tenant storage.TenantID) (storage.Record, bool) {
		return storage.Record{Tenant: &storage.Tenant{ID: tenant, Name: l.Name, Created: l.Created}}, whole(l.Created)
	})},
	{"schema", "a schema: kind, id, version and doc", reader(func(l itemLine, _ storage.TenantID) (storage.Record, bool) {
		i := &storage.Item{Kind: l.Kind, ID: l.ID, Keys: l.Keys, Version: l.Version, Data: l.Doc}
		return storage.Record{Item: i}, l.Version > 0 && l.Kind == storage.SchemaKind && len(l.Keys) == 0 && i.Prepare() == nil
	})},
	{"client", "a client: id, name, scopes and created, and perhaps profile, references, networks, rate, burst and revoked", reader(func(l clientLine, tenant storage.TenantID) (storage.Record, bool) {
		return storage.Record{Client: &storage.Client{ID: l.ID, Tenant: tenant, Name: l.Name, Scopes: l.Scopes, Profile: l.Profile, References: l.References, Networks: l.Networks, Rate: l.Rate, Burst: l.Burst,
			Created: l.Created, Revoked: l.Revoked}}, l.ID != "" && l.Name != "" && l.Scopes != nil && whole(l.Created) && unset(l.Revoked)
	})},
	{"token", "a token: id, client, hash, created and expires, and perhaps lastUsed", reader(func(l tokenLine, _ storage.TenantID) (storage.Record, bool) {
		return storage.Record{Token: &storage.Token{ID: l.ID, Client: l.Client, Hash: l.Hash, Created: l.Created, Expires: l.Expires, LastUsed: l.LastUsed}},
			l.ID != "" && l.Client != "" && len(l.Hash) > 0 && whole(l.Created) && whole(l.Expires) && unset(l.LastUsed)
	})},
	{"resource", "a resource: type, id, version, created, lastModified and doc, and perhaps deleted", reader(func(l resourceLine, _ storage.TenantID) (storage.Record, bool) {
		return storage.Record{Resource: &storage.WholeResource{Resource: storage.Resource{Type: l.Type, ID: l.ID, Version: l.Version,
				Created: l.Created, LastModified: l.LastModified, Doc: l.Doc}, Deleted: l.Deleted}},
			l.Type != "" && storage.IsID(l.ID) && l.Version > 0 && whole(l.Created) && whole(l.LastModified) && unset(l.Deleted) && l.Doc.Kind() == '{'
	})},
	{"members", fmt.Sprintf("members: group, and up to %d members with value and perhaps display", storage.MembersPerRecord),
		reader(func(l membersLine, _ storage.TenantID) (storage.Record, bool) {
			m := &storage.GroupMembers{Group: l.Group, Members: make([]storage.Member, len(l.Members))}
			good := l.Group != "" && len(l.Members) > 0 && len(l.Members) <= storage.MembersPerRecord
			for i, e := range l.Members {
				m.Members[i] = storage.Member{Value: e.Value, Display: e.Display}
				good = good && e.Value != ""
			}
			return storage.Record{Members: m}, good
		})},
	{"item", "an item: kind, id, version and doc, and perhaps keys, sorted", reader(func(l itemLine, _ storage.TenantID) (storage.Record, bool) {
		i := &storage.Item{Kind: l.Kind, ID: l.ID, Keys: l.Keys, Version: l.Version, Data: l.Doc}
		return storage.Record{Item: i}, l.Version > 0 && l.Kind != storage.SchemaKind && i.Prepare() == nil && slices.Equal(i.Keys, l.Keys)
	})},
	{"audit", "an audit entry: seq, at, actor and action, and perhaps requestId, type, id, version, attributes, from, level and changes, and chain, n and hash or none of them", reader(func(l auditLine, _ storage.TenantID) (storage.Record, bool) {
		return storage.Record{Audit: &storage.AuditEntry{Seq: l.Seq, At: l.At, RequestID: l.RequestID, Actor: l.Actor, Action: l.Action, Type: l.Type, ID: l.ID,
				Version: l.Version, Attributes: l.Attributes, From: l.From, Level: l.Level, Changes: l.changes(), Chain: l.Chain, N: l.N, Hash: l.Hash}},
			l.Seq > 0 && whole(l.At) && l.Actor != "" && l.Action != "" && l.Version >= 0 && (l.Chain != "") == (l.N > 0) && (l.Chain != "") == (len(l.Hash) > 0)
	})},
}

const endName = "end"

// whole reports whether a time is one that stores keep: in whole milliseconds.
func whole(t time.Time) bool { return !t.IsZero() && t.Equal(t.Truncate(time.Millisecond)) }

func unset(t time.Time) bool { return t.IsZero() || whole(t) }

func reader[L any](record func(L, storage.TenantID) (storage.Record, bool)) func(jsontext.Value, storage.TenantID) (storage.Record, bool) {
	return func(v jsontext.Value, tenant storage.TenantID) (storage.Record, bool) {
		var l L
		if !decode(v, &l) {
			return storage.Record{}, false
		}
		return record(l, tenant)
	}
}

// decode reads an object of exactly these members. Its error would quote values,
// so there is none.
func decode(v []byte, into any) bool {
	return json.Unmarshal(v, into, json.RejectUnknownMembers(true)) == nil
}

// appendRecord appends the line of a record, without its end.
func appendRecord(dst []byte, r storage.Record) ([]byte, error) {
	var name string
	var line any
	var doc []byte
	switch {
	case r.Tenant != nil:
		name, line = "tenant", tenantLine{r.Tenant.Name, r.Tenant.Created}
	case r.Client != nil:
		c := r.Client
		name, line = "client", clientLine{c.ID, c.Name, c.Scopes, c.Profile, c.References, c.Networks, c.Rate, c.Burst, c.Created, c.Revoked}
	case r.Token != nil:
		k := r.Token
		name, line = "token", tokenLine{k.ID, k.Client, k.Hash, k.Created, k.Expires, k.LastUsed}
	case r.Resource != nil:
		w := r.Resource
		name, doc = "resource", w.Doc
		line = resourceLine{Type: w.Type, ID: w.ID, Version: w.Version, Created: w.Created, LastModified: w.LastModified, Deleted: w.Deleted}
	case r.Members != nil:
		m := membersLine{Group: r.Members.Group, Members: make([]memberLine, len(r.Members.Members))}
		for i, e := range r.Members.Members {
			m.Members[i] = memberLine{e.Value, e.Display}
		}
		name, line = "members", m
	case r.Item != nil:
		i := r.Item
		if name, doc = "item", i.Data; i.Kind == storage.SchemaKind {
			name = "schema"
		}
		line = itemLine{Kind: i.Kind, ID: i.ID, Keys: i.Keys, Version: i.Version}
	case r.Audit != nil:
		name, line = "audit", auditLineOf(r.Audit)
	}
	return appendLine(dst, name, line, doc)
}

// appendLine appends an object with one member. A document becomes the last
// member of that, byte for byte: an encoder might write its strings in another
// way.
func appendLine(dst []byte, name string, line any, doc []byte) ([]byte, error) {
	b, err := json.Marshal(line)
	if err != nil {
		return nil, fmt.Errorf("write a record of the kind %s: %w", name, err)
	}
	dst = append(append(append(dst, `{"`...), name...), `":`...)
	if doc != nil {
		if bytes.ContainsRune(doc, '\n') {
			return nil, fmt.Errorf("write a record of the kind %s: its document has more than one line", name)
		}
		b = append(append(append(b[:len(b)-1], `,"doc":`...), doc...), '}')
	}
	dst = append(append(dst, b...), '}')
	if len(dst) > maxLine {
		return nil, fmt.Errorf("write a record of the kind %s: it has more than %d bytes", name, maxLine)
	}
	return dst, nil
}

// probeHeader reads the part of a header that all versions have.
func probeHeader(v []byte, into any) bool { return json.Unmarshal(v, into) == nil }
