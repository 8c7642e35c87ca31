package auth

import (
	"bytes"
	"errors"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/storage"
)

// told puts into an audit entry what became of a record, member by member: before or
// after is nil if there is none. Neither may have a secret in it.
func told(e *storage.AuditEntry, before, after any) error {
	was, err := members(before)
	if err != nil {
		return err
	}
	is, err := members(after)
	if err != nil {
		return err
	}
	var c storage.Changes
	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if bytes.Equal(was[name], is[name]) {
			continue
		}
		if len(was) > 0 && len(is) > 0 {
			e.Attributes = append(e.Attributes, name)
		}
		c.Add(name, was[name], is[name])
	}
	e.Changes = append(e.Changes, c.List...)
	return nil
}

// members returns the members of a record's JSON.
func members(v any) (map[string]jsontext.Value, error) {
	m := map[string]jsontext.Value{}
	if v == nil {
		return m, nil
	}
	b, err := json.Marshal(v, json.Deterministic(true))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return nil, errors.New("a record cannot be told of") // the error may quote it
	}
	return m, nil
}
