package access

import (
	"errors"
	"log/slog"
	"time"

	"github.com/roster-id/roster/internal/mail"
	"github.com/roster-id/roster/storage"
)

// Post returns what Desk.Tell is where there is mail: letters that lead to the server at
// base. It is nil without mail, or without an address to lead to. Who has an address that
// cannot be written to is not told, and nothing fails for it.
func Post(q *mail.Queue, base string, log *slog.Logger) func(storage.ItemWriter, storage.TenantID, mail.Message, time.Time) error {
	if !q.Enabled() || base == "" {
		return nil
	}
	return func(tx storage.ItemWriter, tenant storage.TenantID, m mail.Message, now time.Time) error {
		m.Language = mail.LanguageOf(m.Language, "")
		m.Fields["link"], m.Fields["organisation"] = base, ""
		err := q.Put(tx, tenant, m, now)
		if e, ok := errors.AsType[*mail.FieldError](err); ok {
			log.Warn("somebody is not told by mail", "tenant", tenant, "kind", m.Kind, "field", e.Field, "error", e)
			return nil
		}
		return err
	}
}
