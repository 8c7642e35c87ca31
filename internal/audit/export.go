package audit

import (
	"bufio"
	"context"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/storage"
)

// line is an entry as it is exported. Names are never changed, only added to.
type line struct {
	Tenant     storage.TenantID `json:"tenant"`
	Seq        int64            `json:"seq"`
	At         time.Time        `json:"at"`
	RequestID  string           `json:"requestId,omitempty"`
	Actor      string           `json:"actor"`
	From       string           `json:"from,omitempty"`
	Level      string           `json:"level,omitempty"`
	Action     string           `json:"action"`
	Type       string           `json:"type,omitempty"`
	ID         string           `json:"id,omitempty"`
	Version    int64            `json:"version,omitzero"`
	Attributes []string         `json:"attributes,omitempty"`
	Changes    []changeLine     `json:"changes,omitempty"`
	Chain      string           `json:"chain,omitempty"`
	N          int64            `json:"n,omitzero"`
	Hash       Sum              `json:"hash,omitempty"`
}

type changeLine struct {
	Path   string         `json:"path"`
	Before jsontext.Value `json:"before,omitzero"`
	After  jsontext.Value `json:"after,omitzero"`
}

// appendLine appends an entry as a JSON object, as in an export.
func appendLine(dst []byte, tenant storage.TenantID, e *storage.AuditEntry) ([]byte, error) {
	l := line{tenant, e.Seq, e.At, e.RequestID, e.Actor, e.From, e.Level, e.Action, e.Type, e.ID, e.Version, e.Attributes, nil, e.Chain, e.N, e.Hash}
	for _, c := range e.Changes {
		l.Changes = append(l.Changes, changeLine{c.Path, Value(c.Before), Value(c.After)})
	}
	b, err := json.Marshal(l, jsontext.AllowInvalidUTF8(true))
	return append(dst, b...), err
}

// Value is what an entry has for a value; whatever is no JSON, because somebody has
// changed it, as text.
func Value(b []byte) jsontext.Value {
	if len(b) == 0 {
		return nil
	}
	if v := jsontext.Value(b); v.IsValid() {
		return v
	}
	quoted, _ := jsontext.AppendQuote(nil, b) // invalid UTF-8 is replaced
	return quoted
}

// Export writes the entries of a tenant that q selects to w, one to a line, oldest
// first, and returns how many these are. The Limit of q means nothing.
func Export(ctx context.Context, store storage.Audit, tenant storage.TenantID, q Query, w io.Writer) (n int64, err error) {
	out := bufio.NewWriterSize(w, 64<<10)
	var buf []byte
	for after := q.After; ; {
		list, err := store.AuditEntries(ctx, tenant, after, portion)
		if err != nil {
			return n, err
		}
		for i := range list {
			if !q.selects(&list[i]) {
				continue
			}
			if buf, err = appendLine(buf[:0], tenant, &list[i]); err != nil {
				return n, err
			}
			if _, err := out.Write(append(buf, '\n')); err != nil {
				return n, err
			}
			n++
		}
		if len(list) < portion {
			return n, out.Flush()
		}
		after = list[len(list)-1].Seq
	}
}
