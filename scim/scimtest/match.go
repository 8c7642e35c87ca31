package scimtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// decode reads JSON into map[string]any, []any, string, json.Number, bool, nil.
func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return v, nil
}

func encode(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// path leads to a value in JSON; a nil element stands for [*].
type path []any // of string, int, nil

var segmentPattern = regexp.MustCompile(`^(?:\.([A-Za-z_$][A-Za-z0-9_$-]*)|\[("(?:[^"\\]|\\.)*")\]|\[([0-9]+)\]|\[(\*)\])`)

func parsePath(text string) (path, error) {
	rest, ok := strings.CutPrefix(text, "$")
	p := path{}
	for ok && rest != "" {
		m := segmentPattern.FindStringSubmatch(rest)
		if m == nil {
			ok = false
			break
		}
		switch {
		case m[1] != "":
			p = append(p, m[1])
		case m[2] != "":
			var name string
			if err := json.Unmarshal([]byte(m[2]), &name); err != nil {
				return nil, err
			}
			p = append(p, name)
		case m[3] != "":
			n, err := strconv.Atoi(m[3])
			if err != nil {
				return nil, err
			}
			p = append(p, n)
		default:
			p = append(p, nil)
		}
		rest = rest[len(m[0]):]
	}
	if !ok {
		return nil, fmt.Errorf(`%s: expected $ followed by .name, ["name"], [0] or [*]`, text)
	}
	return p, nil
}

// find returns what the path leads to, and whether it leads anywhere. After [*]
// that is a list of what was found in the elements.
func (p path) find(v any) (any, bool) {
	if len(p) == 0 {
		return v, true
	}
	switch step := p[0].(type) {
	case string:
		m, _ := v.(map[string]any)
		v, ok := m[step]
		if !ok {
			return nil, false
		}
		return p[1:].find(v)
	case int:
		list, _ := v.([]any)
		if step >= len(list) {
			return nil, false
		}
		return p[1:].find(list[step])
	}
	list, ok := v.([]any)
	found := []any{}
	for _, e := range list {
		if f, ok := p[1:].find(e); ok {
			found = append(found, f)
		}
	}
	return found, ok
}

// any reports whether there is any value at the path.
func (p path) any(v any) bool {
	found, ok := p.find(v)
	if list, isList := found.([]any); ok && isList && slices.Contains(p, nil) {
		return len(list) > 0
	}
	return ok
}

// equal compares JSON, numbers by their value.
func equal(x, y any) bool {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		return ok && maps.EqualFunc(x, y, equal)
	case []any:
		y, ok := y.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	case json.Number:
		y, ok := y.(json.Number)
		if !ok {
			return false
		}
		a, okA := new(big.Rat).SetString(string(x))
		b, okB := new(big.Rat).SetString(string(y))
		return okA && okB && a.Cmp(b) == 0
	}
	return x == y
}

// contains returns what is missing for got to contain want, or "".
func contains(want, got any, at string) string {
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			return mismatch(want, got, at)
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if msg := contains(want[name], m[name], member(at, name)); msg != "" {
				return msg
			}
		}
		return ""
	case []any:
		list, ok := got.([]any)
		if !ok {
			return mismatch(want, got, at)
		}
		return containsAll(want, list, at)
	case string:
		if expr, ok := expression(want); ok {
			s, ok := got.(string)
			re, err := regexp.Compile(expr)
			switch {
			case err != nil:
				return fmt.Sprintf("%s: %v", at, err)
			case !ok || !re.MatchString(s):
				return mismatch(want, got, at)
			}
			return ""
		}
	}
	if !equal(want, got) {
		return mismatch(want, got, at)
	}
	return ""
}

// expression returns the regular expression that a text between slashes is.
func expression(s string) (string, bool) {
	if len(s) < 2 || s[0] != '/' || s[len(s)-1] != '/' {
		return "", false
	}
	return `^(?s:` + s[1:len(s)-1] + `)$`, true
}

// containsAll matches the elements of two lists one to one.
func containsAll(want, got []any, at string) string {
	open := slices.Contains(want, any("..."))
	want = slices.DeleteFunc(slices.Clone(want), func(v any) bool { return v == "..." })
	if len(want) == 1 && len(got) == 1 {
		return contains(want[0], got[0], at+"[0]")
	}
	// Each wanted element takes one that fits; one that is taken already is
	// taken over when its holder can do with another.
	holder := make([]int, len(got))
	for i := range holder {
		holder[i] = -1
	}
	var place func(w int, tried []bool) bool
	place = func(w int, tried []bool) bool {
		for g := range got {
			if tried[g] || contains(want[w], got[g], at) != "" {
				continue
			}
			tried[g] = true
			if holder[g] < 0 || place(holder[g], tried) {
				holder[g] = w
				return true
			}
		}
		return false
	}
	for w := range want {
		if !place(w, make([]bool, len(got))) {
			return fmt.Sprintf("%s: no element of its own, of %d, for %s", at, len(got), short(encode(want[w])))
		}
	}
	if !open && len(got) > len(want) {
		i := slices.Index(holder, -1)
		return fmt.Sprintf("%s: got %d elements, want %d; one too many is %s", at, len(got), len(want), short(encode(got[i])))
	}
	return ""
}

func mismatch(want, got any, at string) string {
	return fmt.Sprintf("%s: got %s, want %s", at, short(encode(got)), short(encode(want)))
}

func member(at, name string) string {
	if m := segmentPattern.FindString("." + name); m == "."+name {
		return at + "." + name
	}
	return at + "[" + strconv.Quote(name) + "]"
}

func (p path) String() string {
	s := "$"
	for _, step := range p {
		switch step := step.(type) {
		case string:
			s = member(s, step)
		case int:
			s += "[" + strconv.Itoa(step) + "]"
		default:
			s += "[*]"
		}
	}
	return s
}

func short(s string) string {
	const most = 1000
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
