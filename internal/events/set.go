package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Event URIs of RFC 9967.
const (
	prefix       = "urn:ietf:params:scim:event:"
	FeedAdd      = prefix + "feed:add"
	CreateNotice = prefix + "prov:create:notice"
	CreateFull   = prefix + "prov:create:full"
	PutNotice    = prefix + "prov:put:notice"
	PutFull      = prefix + "prov:put:full"
	PatchNotice  = prefix + "prov:patch:notice"
	PatchFull    = prefix + "prov:patch:full"
	Delete       = prefix + "prov:delete"
	Activate     = prefix + "prov:activate"
	Deactivate   = prefix + "prov:deactivate"
	AsyncResp    = prefix + "misc:asyncresp"

	// Verification is the event of a test (OpenID SSE, as RFC 8935 and 8936 have none).
	Verification = "urn:roster:event:test"
)

// URIs returns the events that a feed can be told of, in the order of documentation.
func URIs() []string {
	return []string{FeedAdd, CreateNotice, CreateFull, PutNotice, PutFull, PatchNotice, PatchFull, Delete, Activate, Deactivate, AsyncResp}
}

// defaultURIs are those that a feed is told of which does not say: all, without data.
func defaultURIs() []string {
	return []string{FeedAdd, CreateNotice, PutNotice, PatchNotice, Delete, Activate, Deactivate, AsyncResp}
}

// notices are the events that come in two forms.
var notices = map[string]string{CreateNotice: CreateFull, PutNotice: PutFull, PatchNotice: PatchFull}

// claims are the payload of a security event token (RFC 8417), and the body of a webhook.
type claims struct {
	Issuer   string                    `json:"iss"`
	Audience string                    `json:"aud"`
	IssuedAt int64                     `json:"iat"`
	ID       string                    `json:"jti"`
	Txn      string                    `json:"txn,omitzero"`
	Subject  *subject                  `json:"sub_id,omitzero"`
	Events   map[string]jsontext.Value `json:"events"`
}

// subject is a subject identifier in the format of RFC 9967.
type subject struct {
	Format     string `json:"format"`
	URI        string `json:"uri"`
	ExternalID string `json:"externalId,omitzero"`
	ID         string `json:"id,omitzero"`
}

// payload is what an event says.
type payload struct {
	Version    string         `json:"version,omitzero"`
	Attributes []string       `json:"attributes,omitzero"`
	Data       jsontext.Value `json:"data,omitzero"`

	Method   string `json:"method,omitzero"`
	BulkID   string `json:"bulkId,omitzero"`
	Location string `json:"location,omitzero"`
	Status   string `json:"status,omitzero"`
	// Response is the error of an operation that failed (RFC 9967 §2.5.1.3).
	Response *refusal `json:"response,omitzero"`

	resourceType string
}

// refusal is a scim.Error as far as the audit trail keeps it.
type refusal struct {
	Schemas []string `json:"schemas"`
	Status  string   `json:"status"`
	Type    string   `json:"scimType,omitzero"`
	Detail  string   `json:"detail,omitzero"`
}

// eventID is the jti of an event of a feed, and the id of a webhook: the same at every
// attempt, and for every process.
func (f *Feed) eventID(seq int64) string {
	id := f.ID
	if f.Epoch != "" {
		id += "-" + f.Epoch
	}
	return letterID(id, seq)
}

// seqOf is eventID the other way round.
func (f *Feed) seqOf(id string) (seq int64, ok bool) {
	_, seq, ok = parseLetterID(id)
	return seq, ok && id == f.eventID(seq)
}

// letterID is the id of a dead letter: that of the event, without the epoch.
func letterID(feed string, seq int64) string { return feed + "." + strconv.FormatInt(seq, 10) }

// parseLetterID is letterID the other way round.
func parseLetterID(id string) (feed string, seq int64, ok bool) {
	feed, text, _ := strings.Cut(id, ".")
	seq, err := strconv.ParseInt(text, 10, 64)
	return feed, seq, err == nil && seq > 0 && id == letterID(feed, seq)
}

// tells returns the URIs by which a feed is told of an entry of the audit trail, none
// if it is not.
func (f *Feed) tells(e *storage.AuditEntry) (list []string) {
	if e.Version == 0 {
		return nil
	}
	add := func(uri string) {
		if slices.Contains(f.Events, uri) || notices[uri] != "" && slices.Contains(f.Events, notices[uri]) {
			list = append(list, uri)
		}
	}
	if e.Type == scim.AsyncType {
		if p, _ := completion(e); p.resourceType == "" || slices.Contains(f.Types, p.resourceType) {
			add(AsyncResp)
		}
		return list
	}
	if !slices.Contains(f.Types, e.Type) {
		return nil
	}
	switch e.Action[strings.LastIndexByte(e.Action, '.')+1:] {
	case "create":
		add(CreateNotice)
	case "restore":
		add(FeedAdd)
	case "replace":
		add(PutNotice)
	case "patch", "send", "accept", "revoke": // an invitation
		add(PatchNotice)
	case "delete":
		add(Delete)
		return list
	default:
		return nil
	}
	for _, c := range e.Changes {
		before, after := string(c.Before), string(c.After)
		switch {
		case c.Path != "active" || before == "":
		case after == "false":
			add(Deactivate)
		case before == "false":
			add(Activate)
		}
	}
	return list
}

// claimsOf says what an entry means to a feed, which is told of it by these URIs.
func (s *Feeds) claimsOf(ctx context.Context, tenant storage.TenantID, f *Feed, e *storage.AuditEntry, uris []string) (*claims, error) {
	c := &claims{
		// What a clock that was ahead has written is not from the future: that is refused.
		Issuer: s.issuer(), Audience: f.Audience, IssuedAt: min(e.At.Unix(), s.now().Unix()), ID: f.eventID(e.Seq), Txn: txnOf(e), Events: map[string]jsontext.Value{},
	}
	say := func(uri string, p payload) error {
		raw, err := json.Marshal(p)
		c.Events[uri] = raw
		return err
	}
	if e.Type == scim.AsyncType {
		p, path := completion(e)
		c.Subject = &subject{Format: "scim", URI: path}
		if p.Location != "" {
			c.Subject.URI, c.Subject.ID = p.Location, p.Location[strings.LastIndexByte(p.Location, '/')+1:]
			p.Location = c.Issuer + s.base + p.Location
		}
		return c, say(AsyncResp, p)
	}
	set, err := s.directory.Types(ctx, tenant)
	if err != nil {
		return nil, err
	}
	t, endpoint := set.Type(e.Type), "/"+e.Type
	if t != nil { // the tenant may have none like it any more
		endpoint = t.Endpoint
	}
	c.Subject = &subject{Format: "scim", URI: endpoint + "/" + e.ID, ID: e.ID, ExternalID: externalID(e)}
	version := func(n int64) string { return fmt.Sprintf(`W/"%d"`, n) }
	for _, uri := range uris {
		p := payload{Version: version(e.Version)}
		if uri == Delete { // has no attributes (§2.4.4)
			p = payload{}
		}
		if full := notices[uri]; full != "" {
			p.Attributes = e.Attributes
			if uri == CreateNotice {
				p.Attributes = pathsOf(e)
			}
			if t != nil && slices.Contains(f.Events, full) {
				doc, external, at, err := s.directory.Represent(ctx, tenant, c.Issuer+s.base, t, e.ID)
				switch {
				case err == nil && at == e.Version:
					// What it is now is not what this event is about otherwise; the event that
					// is brings it.
					uri, p.Data, p.Attributes, c.Subject.ExternalID = full, doc, nil, external
				case err != nil && !errors.Is(err, storage.ErrNotFound):
					return nil, err
				}
			}
			if p.Data == nil && p.Attributes == nil {
				p.Attributes = []string{}
			}
		}
		if err := say(uri, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// txnOf names the transaction of an entry: the request, or, as the program does some things
// by itself, the entry's place in its chain, which no other has.
func txnOf(e *storage.AuditEntry) string {
	if e.RequestID == "" && e.Chain != "" {
		return e.Chain + "." + strconv.FormatInt(e.N, 10)
	}
	return e.RequestID
}

// completion is the response to an operation of an asynchronous request, and the path that
// the event is about where no resource is: that of the type, or else of the request.
func completion(e *storage.AuditEntry) (p payload, path string) {
	path = "/Bulk"
	failed := refusal{Schemas: []string{scim.ErrorURI}}
	members := map[string]*string{
		"method": &p.Method, "bulkId": &p.BulkID, "status": &p.Status, "location": &p.Location, "version": &p.Version, "path": &path,
		scim.AsyncResourceType: &p.resourceType,
		"scimType":             &failed.Type, "detail": &failed.Detail,
	}
	for _, c := range e.Changes {
		if m := members[c.Path]; m != nil {
			_ = json.Unmarshal(c.After, m) // one that was too long is left out
		}
	}
	if !strings.HasPrefix(p.Status, "2") {
		failed.Status = p.Status
		p.Response = &failed
	}
	return p, path
}

// TellsOfAsync reports whether a feed of a tenant is told when an operation of an
// asynchronous request is done.
func (s *Feeds) TellsOfAsync(ctx context.Context, tenant storage.TenantID) (bool, error) {
	items, err := s.store.Items(ctx, tenant, feedKind, "")
	return slices.ContainsFunc(items, func(i *storage.Item) bool {
		// Whether its secrets can be opened is nothing to a request that is to come to its end.
		var r record
		return json.Unmarshal(i.Data, &r) == nil && slices.Contains(r.Events, AsyncResp)
	}), err
}

// pathsOf returns the attributes that the entry of a new resource tells of.
func pathsOf(e *storage.AuditEntry) (list []string) {
	for _, c := range e.Changes {
		list = append(list, c.Path)
	}
	return list
}

// externalID returns that of the resource, if the entry tells it.
func externalID(e *storage.AuditEntry) (id string) {
	for _, c := range e.Changes {
		if c.Path == "externalId" {
			raw := c.After
			if len(raw) == 0 {
				raw = c.Before
			}
			_ = json.Unmarshal(raw, &id) // no text is none
		}
	}
	return id
}

// body writes claims down.
func (c *claims) body() ([]byte, error) { return json.Marshal(c, json.Deterministic(true)) }

// sign makes a security event token of claims.
func (s *Feeds) sign(c *claims) (string, error) {
	body, err := c.body()
	if err != nil {
		return "", err
	}
	key := s.keys.EventSigner()
	t := &jwt.Token{Method: jwt.SigningMethodEdDSA, Header: map[string]any{"typ": "secevent+jwt", "alg": jwt.SigningMethodEdDSA.Alg(), "kid": keyID(key)}}
	header, err := json.Marshal(t.Header, json.Deterministic(true))
	if err != nil {
		return "", err
	}
	text := t.EncodeSegment(header) + "." + t.EncodeSegment(body)
	sig, err := t.Method.Sign(text, key)
	if err != nil {
		return "", err
	}
	return text + "." + t.EncodeSegment(sig), nil
}
