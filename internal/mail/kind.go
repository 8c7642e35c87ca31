package mail

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind is what a message is about. Its fields are those in the comments; those with
// a question mark may be empty, but not missing.
type Kind string

// The kinds.
const (
	// Invitation: inviter, message?, link, expires, organisation?
	Invitation Kind = "invitation"
	// ReviewReminder: title, due, link, organisation?
	ReviewReminder Kind = "review-reminder"
	// RoleRequest, to who may approve: requester, role, reason?, link, organisation?
	RoleRequest Kind = "role-request"
	// RoleDecided, to who asked: role, decision (Approved or Refused), decider, reason?, link, organisation?
	RoleDecided Kind = "role-decided"
	// Test has no fields.
	Test Kind = "test"
)

// What a decision can be.
const (
	Approved = "approved"
	Refused  = "refused"
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{Invitation, ReviewReminder, RoleRequest, RoleDecided, Test} }

// MaxText is how many characters a text of several lines may have, such as the
// message in an invitation.
const MaxText = 2000

// maxLine is how many characters of a text of one line are shown.
const maxLine = 200

const maxLink = 4096

// sort is what the value of a field has to be.
type sort uint8

const (
	line     sort = iota + 1 // text that is shown in one line
	text                     // text of several lines, at most MaxText characters
	link                     // an http or https URL of this server, which is the only kind of link there is
	instant                  // a date and time as time.RFC3339
	decision                 // Approved or Refused
)

type field struct {
	name     string
	sort     sort
	optional bool
	// ends marks the instant at which the message has lost its sense.
	ends bool
}

var organisation = field{name: "organisation", sort: line, optional: true}

var fields = map[Kind][]field{
	Invitation: {
		{name: "inviter", sort: line}, {name: "message", sort: text, optional: true}, {name: "link", sort: link},
		{name: "expires", sort: instant, ends: true}, organisation,
	},
	ReviewReminder: {{name: "title", sort: line}, {name: "due", sort: instant}, {name: "link", sort: link}, organisation},
	RoleRequest: {
		{name: "requester", sort: line}, {name: "role", sort: line}, {name: "reason", sort: text, optional: true}, {name: "link", sort: link}, organisation,
	},
	RoleDecided: {
		{name: "role", sort: line}, {name: "decision", sort: decision}, {name: "decider", sort: line},
		{name: "reason", sort: text, optional: true}, {name: "link", sort: link}, organisation,
	},
	Test: {},
}

// FieldError says what is wrong with a message. It repeats no value.
type FieldError struct {
	Field string // "to", or the name of a field
	Msg   string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Msg }

// check sees to it that m can be sent, and brings its texts into the form in which
// they are shown.
func (m *Message) check() error {
	defined, ok := fields[m.Kind]
	if !ok {
		return &FieldError{"kind", "there is no such kind of message"}
	}
	if err := checkAddress(m.To); err != nil {
		return err
	}
	out := make(map[string]string, len(defined))
	for _, f := range defined {
		v, ok := m.Fields[f.name]
		if !ok {
			return &FieldError{f.name, "is missing"}
		}
		v, err := f.clean(v)
		if err != nil {
			return err
		}
		out[f.name] = v
	}
	for name := range m.Fields {
		if !slices.ContainsFunc(defined, func(f field) bool { return f.name == name }) {
			return &FieldError{name, "is no field of this kind of message"}
		}
	}
	m.Fields = out
	return nil
}

// clean returns a value as it is shown.
func (f field) clean(v string) (string, error) {
	wrong := func(msg string) (string, error) { return "", &FieldError{f.name, msg} }
	if !utf8.ValidString(v) {
		return wrong("is no UTF-8")
	}
	switch f.sort {
	case line:
		v = disarm(oneLine(v))
	case text:
		if utf8.RuneCountInString(v) > MaxText {
			return wrong("is too long")
		}
		v = disarm(lines(v))
	case link:
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(v) > maxLink ||
			strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`{|}", r) }) {
			return wrong("is no absolute http or https URL")
		}
	case instant:
		if _, err := time.Parse(time.RFC3339, v); err != nil {
			return wrong("is no date and time (RFC 3339)")
		}
	case decision:
		if v != Approved && v != Refused {
			return wrong("is no decision")
		}
	}
	if v == "" && !f.optional {
		return wrong("is empty")
	}
	return v, nil
}

// ends returns when the message has lost its sense, or zero. m has been checked.
func (m *Message) ends() (at time.Time) {
	for _, f := range fields[m.Kind] {
		if f.ends {
			at, _ = time.Parse(time.RFC3339, m.Fields[f.name])
		}
	}
	return at
}
