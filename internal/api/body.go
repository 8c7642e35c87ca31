package api

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
)

// maxBody is the size of a request body in bytes. Nothing here needs more than a
// few lines.
const maxBody = 64 << 10

// limits bound the JSON of a request.
var limits = schemas.Limits{Depth: 8, Tokens: 2000}

// read reads a body into the struct that dst points to. A name given twice, one
// that the struct does not have, a value of another kind, and a missing member are
// refused by name; values are never repeated. Members of the struct that have neither
// omitempty nor omitzero must be given, and not as null.
func read(r *http.Request, dst any) error { return readUpTo(r, dst, maxBody, limits) }

// readExtensible is read for bodies that may have members of which this server knows
// nothing, as a specification has it.
func readExtensible(r *http.Request, dst any) error {
	return readUpTo(r, dst, maxBody, limits, json.RejectUnknownMembers(false))
}

// readUpTo is read for bodies of another size.
func readUpTo(r *http.Request, dst any, maxBody int64, limits schemas.Limits, opts ...json.Options) error {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return &scim.Error{Status: http.StatusUnsupportedMediaType, Detail: "expected a body without Content-Encoding"}
	}
	// No form of somebody else's page can send this type.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return &scim.Error{Status: http.StatusUnsupportedMediaType, Detail: "expected Content-Type application/json"}
	}
	if r.ContentLength > maxBody {
		return tooLarge(maxBody)
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		if _, told := errors.AsType[*scim.Error](err); told {
			return err
		}
		return invalid("the body could not be read to its end")
	case int64(len(raw)) > maxBody:
		return tooLarge(maxBody)
	}
	// The same rules as in SCIM: depth, number of values, names that differ in case
	// only, U+0000.
	tree, err := schemas.Decode(raw, limits)
	if err != nil {
		if e, ok := errors.AsType[*schemas.SyntaxError](err); ok {
			return invalid("the body is not acceptable JSON: " + e.Error())
		}
		return err
	}
	if err := json.Unmarshal(raw, dst, json.RejectUnknownMembers(true), json.JoinOptions(opts...)); err != nil {
		return misfit(err)
	}
	if tree == nil {
		return invalid("the body: expected an object")
	}
	if name := missing(tree, reflect.TypeOf(dst), ""); name != "" {
		return invalid(name + ": is required")
	}
	return nil
}

// missing names the first member that t requires and v, which fits t, does not give.
// Without it a request that forgot a flag would have said false.
func missing(v any, t reflect.Type, path string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case []any:
		if t.Kind() != reflect.Slice {
			return ""
		}
		for i, element := range v {
			if name := missing(element, t.Elem(), memberPath(path, strconv.Itoa(i))); name != "" {
				return name
			}
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return ""
		}
		for _, f := range reflect.VisibleFields(t) {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				continue
			}
			if v[name] == nil {
				if options == "" {
					return memberPath(path, name)
				}
				continue
			}
			if inner := missing(v[name], f.Type, memberPath(path, name)); inner != "" {
				return inner
			}
		}
	}
	return ""
}

func tooLarge(most int64) error {
	return &scim.Error{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", most)}
}

// misfit says which member of a body does not fit.
func misfit(err error) error {
	e, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return invalid("the body is not as expected")
	}
	name := ""
	for token := range e.JSONPointer.Tokens() {
		name = memberPath(name, token)
	}
	if errors.Is(err, json.ErrUnknownName) {
		p := invalid("there is no such member: " + strconv.QuoteToASCII(cut(name)))
		p.repeats = true
		return p
	}
	if name == "" {
		name = "the body"
	}
	return invalid(name + ": expected " + kindName(e.GoType))
}

// memberPath is where something stands in a body: roles[0].value.
func memberPath(path, token string) string {
	switch _, err := strconv.Atoi(token); {
	case err == nil:
		return path + "[" + token + "]"
	case path == "":
		return token
	}
	return path + "." + token
}

// cut keeps the name of a member short; it is the client's.
func cut(name string) string {
	const most = 64
	if len(name) > most {
		return strings.ToValidUTF8(name[:most], "") + "..."
	}
	return name
}

// kindName says what a member has to be, in terms of JSON.
func kindName(t reflect.Type) string {
	if t == nil {
		return "another type"
	}
	if t == reflect.TypeFor[time.Time]() {
		return "a date and time (RFC 3339)"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "an array"
	case reflect.Pointer:
		return kindName(t.Elem())
	}
	return "an object"
}

// none refuses a body where none is expected.
func none(r *http.Request) error {
	if n, err := r.Body.Read(make([]byte, 1)); n > 0 || err != nil && err != io.EOF {
		return invalid("expected no body")
	}
	return nil
}

// respond answers with v as JSON.
func respond(w http.ResponseWriter, status int, v any) error {
	body, err := stdjson.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// done answers that something was done, and there is nothing to say about it.
func done(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
