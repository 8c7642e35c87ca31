package scim

import (
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"

	"github.com/roster-id/roster/storage"
)

// A version is a weak entity tag (RFC 7644 §3.14): W/"7" for the seventh state
// of a resource's own attributes, W/"7.1c9d20ef" when groups it belongs to or the
// address of its manager are shown with it, the roles that contain it, or that it has expired. Preconditions of a write look at the first
// part only, since a change of these is no change of the user.

// version returns the entity tag of a resource.
func version(r *storage.Resource, with around) string {
	b := append(make([]byte, 0, 32), `W/"`...)
	return string(append(appendVersion(b, r, with), '"'))
}

// appendVersion appends what stands between the quotes of the entity tag.
func appendVersion(dst []byte, r *storage.Resource, with around) []byte {
	dst = strconv.AppendInt(dst, r.Version, 10)
	named := with.role != "" || with.principal != "" || with.names != ""
	if len(with.groups) == 0 && with.manager.id == "" && !with.expired && len(with.containedBy) == 0 && !named {
		return dst
	}
	h := fnv.New32a()
	h.Write([]byte(with.manager.id))
	if named {
		h.Write([]byte(with.role + "\x00" + with.principal + with.names))
	}
	if with.expired {
		h.Write([]byte(statusExpired))
	}
	for _, v := range with.containedBy {
		h.Write([]byte(v))
		h.Write([]byte{0})
	}
	for _, g := range with.groups {
		h.Write([]byte(g.Group))
		h.Write([]byte(g.Display))
		h.Write(strconv.AppendBool(nil, g.Direct))
	}
	return strconv.AppendUint(append(dst, '.'), uint64(h.Sum32()), 16)
}

// tags is the value of an If-Match or If-None-Match header.
type tags struct {
	given bool
	any   bool // "*"
	list  []string
}

// parseTags reads a header of entity tags. Clients that leave the quotes or the
// W/ away are understood.
func parseTags(h http.Header, name string) tags {
	values := h.Values(name)
	t := tags{given: len(values) > 0}
	for _, v := range values {
		for v != "" {
			var e string
			e, v = cutElement(v)
			e = strings.TrimSpace(e)
			if e == "*" {
				t.any = true
			}
			e = strings.TrimPrefix(strings.TrimPrefix(e, "W/"), "w/")
			t.list = append(t.list, strings.Trim(e, `"`))
		}
	}
	return t
}

// cutElement cuts a header's list before its next comma. One between quotes is part of an
// element, such as a tag (RFC 9110 §8.8.3).
func cutElement(list string) (element, rest string) {
	quoted := false
	for i := range len(list) {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return list, ""
}

// has reports whether the tags name this entity tag, compared weakly.
func (t tags) has(tag string) bool {
	if t.any {
		return true
	}
	tag = strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)
	for _, e := range t.list {
		if e == tag {
			return true
		}
	}
	return false
}

// hasRevision is has for the first part of the tags.
func (t tags) hasRevision(n int64) bool {
	if t.any {
		return true
	}
	want := strconv.FormatInt(n, 10)
	for _, e := range t.list {
		if rev, _, _ := strings.Cut(e, "."); rev == want {
			return true
		}
	}
	return false
}

// Precondition is what a write asks of the version it changes. The zero value
// asks for nothing.
type Precondition struct{ match, noneMatch tags }

// preconditionFrom reads If-Match and If-None-Match.
func preconditionFrom(h http.Header) Precondition {
	return Precondition{match: parseTags(h, "If-Match"), noneMatch: parseTags(h, "If-None-Match")}
}

func (p Precondition) check(r *storage.Resource) error {
	switch {
	case p.match.given && !p.match.hasRevision(r.Version):
		return ErrPreconditionFailed
	case p.noneMatch.given && p.noneMatch.hasRevision(r.Version):
		return errExcluded
	}
	return nil
}
