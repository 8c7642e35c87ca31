package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/storage"
)

// Entries is a page of the audit trail, oldest first.
type Entries struct {
	Entries []Entry `json:"entries"`
	// Next is the "after" of the next page, if there is more. A search looks at a
	// bounded number of entries, so a page may be short or empty and have one.
	Next string `json:"next,omitempty"`
}

// Entry is an entry of the audit trail.
type Entry struct {
	Seq        int64     `json:"seq"`
	At         time.Time `json:"at"`
	Actor      string    `json:"actor"`
	From       string    `json:"from,omitempty"`
	Level      string    `json:"level,omitempty"`
	Action     string    `json:"action"`
	Type       string    `json:"type,omitempty"`
	ID         string    `json:"id,omitempty"`
	Version    int64     `json:"version,omitempty"`
	RequestID  string    `json:"requestId,omitempty"`
	Attributes []string  `json:"attributes,omitempty"`
	Changes    []Change  `json:"changes,omitempty"`
	Chain      string    `json:"chain,omitempty"`
	N          int64     `json:"n,omitempty"`
	Hash       []byte    `json:"hash,omitempty"`
}

// Change is what became of a value.
type Change struct {
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// Parameters of the audit trail.
var (
	exportParameters = []string{"actor", "action", "type", "id", "since", "until", "after"}
	auditParameters  = append(slices.Clip(exportParameters), "limit")
)

func (a *API) audit(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	q, err := auditQuery(r, auditParameters)
	if err != nil {
		return err
	}
	list, next, err := audit.Search(r.Context(), a.Store, by.Tenant, q)
	if err != nil {
		return err
	}
	out := Entries{Entries: make([]Entry, len(list))}
	for i := range list {
		out.Entries[i] = entry(&list[i])
	}
	if next != 0 {
		out.Next = strconv.FormatInt(next, 10)
	}
	return respond(w, http.StatusOK, out)
}

// exportAudit answers with the trail as roster audit export writes it. That somebody took it
// along is its last entry.
func (a *API) exportAudit(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	q, err := auditQuery(r, exportParameters)
	if err != nil {
		return err
	}
	err = a.Store.Write(r.Context(), by.Tenant, func(tx storage.Tx) error {
		return tx.Audit(by.Entry(r.Context(), a.Now(), "audit.export", "Tenant", string(by.Tenant)))
	})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/jsonl")
	h.Set("Content-Disposition", `attachment; filename="audit.jsonl"`)
	if _, err = audit.Export(r.Context(), a.Store, by.Tenant, q, w); err != nil {
		h.Del("Content-Disposition")
	}
	return err
}

func auditQuery(r *http.Request, names []string) (q audit.Query, err error) {
	values, err := parameters(r, names...)
	if err != nil {
		return q, err
	}
	q = audit.Query{Actor: values.Get("actor"), Action: values.Get("action"), Type: values.Get("type"), ID: values.Get("id")}
	if q.Since, err = instant(values, "since"); err != nil {
		return q, err
	}
	if q.Until, err = instant(values, "until"); err != nil {
		return q, err
	}
	if s := values.Get("after"); s != "" {
		if q.After, err = strconv.ParseInt(s, 10, 64); err != nil || q.After < 0 {
			return q, invalid("after: expected the next of a page")
		}
	}
	q.Limit, err = number(values, "limit", 0, 1, 1000)
	return q, err
}

func entry(e *storage.AuditEntry) Entry {
	out := Entry{
		Seq: e.Seq, At: e.At.UTC(), Actor: e.Actor, From: e.From, Level: e.Level, Action: e.Action, Type: e.Type, ID: e.ID,
		Version: e.Version, RequestID: e.RequestID, Attributes: e.Attributes, Chain: e.Chain, N: e.N, Hash: e.Hash,
	}
	for _, c := range e.Changes {
		out.Changes = append(out.Changes, Change{Path: c.Path, Before: json.RawMessage(audit.Value(c.Before)), After: json.RawMessage(audit.Value(c.After))})
	}
	return out
}
