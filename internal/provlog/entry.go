package provlog

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Entry is one request.
type Entry struct {
	// ID is that of the entry. Entries of one process are in the order of their ids.
	ID        string    `json:"-"`
	RequestID string    `json:"requestId"`
	At        time.Time `json:"at"`
	Client    string    `json:"client"` // its id
	Profile   string    `json:"profile,omitzero"`
	Method    string    `json:"method"`
	Route     string    `json:"route"`
	Status    int       `json:"status"`
	// Refused says that the request was refused, or an operation of a bulk request.
	Refused      bool           `json:"refused,omitzero"`
	Milliseconds int64          `json:"ms"`
	ResourceType string         `json:"resourceType,omitzero"`
	ResourceID   string         `json:"resourceId,omitzero"`
	Query        string         `json:"query,omitzero"`
	Body         jsontext.Value `json:"body,omitzero"`
	Operations   int            `json:"operations,omitzero"`
	Failed       int            `json:"failed,omitzero"`
	Failures     []scim.Failure `json:"failures,omitzero"`
	// Omitted is how many requests of the client, of the same kind, refused or not, were
	// left out since the one before.
	Omitted int `json:"omitted,omitzero"`
}

// kind is that of the items that entries are.
const kind = "provisioning-log"

// maxEntry is the size of an entry in bytes, from which on it is stored without bodies.
const maxEntry = 32 << 10

// The keys by which entries are found.
func ofClient(client string) string   { return "client:" + client }
func refusedBy(client string) string  { return "refused:" + client }
func ofRequest(request string) string { return "request:" + request }

func newEntry(x *scim.Exchange) *Entry {
	e := &Entry{
		ID: storage.NewID(), RequestID: x.RequestID, At: storage.Milli(x.Began), Client: x.By.ID, Profile: x.By.Profile,
		Method: x.Method, Route: x.Route, Status: x.Status, Milliseconds: x.Took.Milliseconds(),
		ResourceType: x.ResourceType, ResourceID: x.ResourceID, Query: x.Query, Body: x.Body,
		Operations: x.Operations, Failed: x.Failed, Failures: x.Failures,
	}
	if len(e.Failures) == 0 && x.Err != nil { // it came to no route
		told := scim.ErrorFor(x.Err)
		e.Failures = []scim.Failure{{Status: told.Status, Type: told.Type, Detail: told.Repeatable()}}
	}
	e.Refused = refused(x)
	return e
}

func refused(x *scim.Exchange) bool { return x.Err != nil || x.Status >= 400 || x.Failed > 0 }

// item returns the entry as it is stored.
func (e *Entry) item(expires time.Time) (*storage.Item, error) {
	data, err := json.Marshal(e)
	if err == nil && len(data) > maxEntry {
		short := *e
		short.Body = nil
		short.Failures = nil
		for _, f := range e.Failures {
			f.Body = nil
			short.Failures = append(short.Failures, f)
		}
		data, err = json.Marshal(&short)
	}
	if err != nil {
		return nil, err
	}
	i := &storage.Item{Kind: kind, ID: e.ID, Keys: []string{ofClient(e.Client), ofRequest(e.RequestID)}, Expires: expires, Data: data}
	if e.Refused {
		i.Keys = append(i.Keys, refusedBy(e.Client))
	}
	return i, nil
}

func readEntry(i *storage.Item) (*Entry, error) {
	e := &Entry{ID: i.ID}
	return e, json.Unmarshal(i.Data, e)
}

// Why returns what is known about the reason of each failure, in the order of
// Failures.
func (e *Entry) Why() []Reason {
	list := make([]Reason, len(e.Failures))
	for i, f := range e.Failures {
		list[i] = reasonOf(f, e.Profile == auth.ProfileStrict)
	}
	return list
}
