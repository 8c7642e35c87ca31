package scim

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Media types (RFC 7644 §3.1), and the one that JSON is called by mistake.
const (
	mediaSCIM = "application/scim+json"
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

// mediaType picks the response's media type: application/json for clients that
// prefer it, else application/scim+json. There is no 406: a client that wants
// neither still reads JSON more easily than nothing (RFC 9110 §12.4.1 leaves the
// choice).
func mediaType(r *http.Request) string {
	accept := r.Header["Accept"]
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == mediaSCIM || accept[0] == "*/*") {
		return mediaSCIM
	}
	if prefersJSON(strings.Join(accept, ",")) {
		return mediaJSON
	}
	return mediaSCIM
}

// preference is what an Accept header says of one media type.
type preference struct {
	quality     float64
	specificity int // of the range that said it: 0 for none
}

// prefersJSON compares the two media types by their qualities (RFC 9110 §12.5.1).
// Of equal ones that counts which is named more exactly, so that "application/json,
// text/plain, */*", which many HTTP libraries send, is an answer too.
func prefersJSON(accept string) bool {
	var json, scim preference
	for element := range strings.SplitSeq(accept, ",") {
		name, quality, ok := mediaRange(element)
		if !ok {
			continue
		}
		json.consider(mediaJSON, name, quality)
		scim.consider(mediaSCIM, name, quality)
	}
	if json.quality != scim.quality {
		return json.quality > scim.quality
	}
	return json.quality > 0 && json.specificity > scim.specificity
}

// consider notes what a range says, if it covers the media type and is more
// specific than those before it; of two alike the higher quality counts.
func (p *preference) consider(media, name string, quality float64) {
	var specificity int
	switch name {
	case media:
		specificity = 3
	case "application/*":
		specificity = 2
	case "*/*":
		specificity = 1
	default:
		return
	}
	if specificity > p.specificity || specificity == p.specificity && quality > p.quality {
		*p = preference{quality, specificity}
	}
}

// mediaRange reads one element of an Accept header. One that is malformed says
// nothing.
func mediaRange(element string) (name string, quality float64, ok bool) {
	name, params, err := mime.ParseMediaType(element)
	if err != nil {
		return "", 0, false
	}
	q, given := params["q"]
	if !given {
		return name, 1, true
	}
	quality, err = strconv.ParseFloat(q, 64)
	return name, quality, err == nil && quality >= 0 && quality <= 1
}
