package storage

import (
	"bytes"
	"testing"
)

// TestChangesTellActive: what is no longer than its size in words is told, however much has
// been told before it: that somebody is not active any more is an event.
func TestChangesTellActive(t *testing.T) {
	for room := range 20 {
		var c Changes
		for left := maxChangeValues - room; left > 0; left -= maxChangeValue {
			c.Add("title", nil, bytes.Repeat([]byte("1"), min(left, maxChangeValue)))
		}
		c.Add("active", []byte("true"), []byte("false"))
		if last := c.List[len(c.List)-1]; string(last.Before) != "true" || string(last.After) != "false" {
			t.Errorf("with room for %d bytes active goes from %s to %s", room, last.Before, last.After)
		}
		c.Add("displayName", nil, bytes.Repeat([]byte("1"), 50))
		if last := c.List[len(c.List)-1]; string(last.After) != `{"$bytes":50}` {
			t.Errorf("what is longer is %s", last.After)
		}
	}
}
