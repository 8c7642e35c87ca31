package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// arguments are the fields of a command or of one of its parts. Whoever reads
// them takes each by name and ends with done, which complains about the first
// one of a wrong type and about those nobody took: nothing is ever ignored by
// oversight.
type arguments struct {
	of     string // whose fields they are, for messages
	fields map[string]bson.RawValue
	// sequences are arrays of documents that came outside the body.
	sequences map[string][]bson.Raw
	err       error
}

func parseArguments(of string, raw bson.Raw) (*arguments, error) {
	elements, err := raw.Elements()
	if err != nil {
		return nil, errorf(failedToParse, "%s", err)
	}
	a := &arguments{of: of, fields: make(map[string]bson.RawValue, len(elements))}
	for _, e := range elements {
		a.fields[e.Key()] = e.Value()
	}
	return a, nil
}

func (a *arguments) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *arguments) has(name string) bool {
	_, ok := a.fields[name]
	return ok
}

// take removes a field. A null is as good as absent.
func (a *arguments) take(name string) (bson.RawValue, bool) {
	v, ok := a.fields[name]
	delete(a.fields, name)
	return v, ok && v.Type != bson.TypeNull
}

func (a *arguments) mismatch(name string, v bson.RawValue, want string) {
	a.fail(errorf(typeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type '%s'", a.of, name, v.Type, want))
}

func (a *arguments) text(name string) string {
	v, ok := a.take(name)
	if !ok {
		return ""
	}
	s, ok := v.StringValueOK()
	if !ok {
		a.mismatch(name, v, "string")
	}
	return s
}

func (a *arguments) integer(name string) int64 {
	v, ok := a.take(name)
	if !ok {
		return 0
	}
	var x any
	if v.IsNumber() && v.Unmarshal(&x) == nil {
		if n, ok := integer(x); ok {
			return n
		}
	}
	a.mismatch(name, v, "int")
	return 0
}

// count is an integer that is not negative.
func (a *arguments) count(name string) int {
	n := a.integer(name)
	if n < 0 {
		a.fail(errorf(badValue, "BSON field '%s.%s' must not be negative", a.of, name))
	}
	return int(n)
}

func (a *arguments) flag(name string) bool {
	v, ok := a.take(name)
	if !ok {
		return false
	}
	if v.IsNumber() {
		f, _ := v.AsFloat64OK()
		return f != 0
	}
	b, ok := v.BooleanOK()
	if !ok {
		a.mismatch(name, v, "bool")
	}
	return b
}

func (a *arguments) raw(name string) bson.Raw {
	v := a.fields[name]
	raw, _ := v.DocumentOK()
	return raw
}

func (a *arguments) document(name string) bson.D {
	v, ok := a.take(name)
	if !ok {
		return nil
	}
	raw, ok := v.DocumentOK()
	if !ok {
		a.mismatch(name, v, "object")
		return nil
	}
	d, err := parseDocument(raw)
	if err != nil {
		a.fail(err)
	}
	return d
}

func (a *arguments) documents(name string) []bson.Raw {
	if s, ok := a.sequences[name]; ok {
		delete(a.sequences, name)
		return s
	}
	v, ok := a.take(name)
	if !ok {
		a.fail(errorf(failedToParse, "BSON field '%s.%s' is missing but a required field", a.of, name))
		return nil
	}
	values, err := v.Array().Values()
	if v.Type != bson.TypeArray || err != nil {
		a.mismatch(name, v, "array")
		return nil
	}
	docs := make([]bson.Raw, len(values))
	for i, v := range values {
		if docs[i], ok = v.DocumentOK(); !ok {
			a.mismatch(name, v, "object")
		}
	}
	return docs
}

// value is a field of any type.
func (a *arguments) value(name string) any {
	v, ok := a.take(name)
	if !ok {
		return nil
	}
	var x any
	if err := v.Unmarshal(&x); err != nil {
		a.fail(errorf(failedToParse, "%s", err))
	}
	return x
}

// ignore takes fields that make no difference to a server of this kind.
func (a *arguments) ignore(names ...string) {
	for _, n := range names {
		delete(a.fields, n)
	}
}

// refuse takes fields that would make a difference the double does not make,
// unless they are off.
func (a *arguments) refuse(names ...string) {
	for _, n := range names {
		v, ok := a.take(n)
		if !ok {
			continue
		}
		if b, isBool := v.BooleanOK(); isBool && !b {
			continue
		}
		a.fail(refused(a.of + "." + n))
	}
}

func (a *arguments) done() error {
	if a.err != nil {
		return a.err
	}
	var left []string
	for n := range a.fields {
		left = append(left, n)
	}
	for n := range a.sequences {
		left = append(left, n)
	}
	if len(left) == 0 {
		return nil
	}
	slices.Sort(left)
	return errorf(unknownField, "BSON field '%s.%s' is an unknown field.", a.of, strings.Join(left, "', '"))
}
