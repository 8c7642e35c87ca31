package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/roster-id/roster/storage"
)

// The states of clients and tokens.
const (
	stateActive  = "active"
	stateExpired = "expired"
	stateRevoked = "revoked"
	stateNone    = "no token"
)

func tokenState(c *storage.Client, t *storage.Token, now time.Time) string {
	switch {
	case !c.Revoked.IsZero():
		return stateRevoked
	case !now.Before(t.Expires):
		return stateExpired
	}
	return stateActive
}

// clientState sums up the tokens: a client is as alive as its liveliest.
func clientState(c *storage.Client, now time.Time) string {
	switch {
	case !c.Revoked.IsZero():
		return stateRevoked
	case len(c.Tokens) == 0:
		return stateNone
	}
	for _, t := range c.Tokens {
		if tokenState(c, t, now) == stateActive {
			return stateActive
		}
	}
	return stateExpired
}

// shownTokens picks the tokens worth a line: those still valid, or else the last
// one there was.
func shownTokens(c *storage.Client, now time.Time) []*storage.Token {
	var shown []*storage.Token
	var last *storage.Token
	for _, t := range c.Tokens {
		if tokenState(c, t, now) == stateActive {
			shown = append(shown, t)
		}
		if last == nil || t.Created.After(last.Created) {
			last = t
		}
	}
	if shown == nil && last != nil {
		shown = append(shown, last)
	}
	return shown
}

// formatRate writes "50/s", "50/s (100)" with a burst, or "-".
func formatRate(c *storage.Client) string {
	switch {
	case c.Rate == 0:
		return "-"
	case c.Burst == 0:
		return fmt.Sprintf("%d/s", c.Rate)
	}
	return fmt.Sprintf("%d/s (%d)", c.Rate, c.Burst)
}

// writeClients prints a table with a line for each token.
func writeClients(w io.Writer, clients []*storage.Client, now time.Time) error {
	if len(clients) == 0 {
		_, err := fmt.Fprintln(w, "No clients.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(table, strings.Join(cells, "\t")) }
	row("NAME", "ID", "PROFILE", "REFERENCES", "SCOPES", "RATE", "TOKEN", "EXPIRES", "LAST USED", "STATE")
	for _, c := range clients {
		about := []string{tame(c.Name), c.ID, cmp.Or(c.Profile, "-"), cmp.Or(c.References, "-"), cmp.Or(strings.Join(c.Scopes, ","), "-"), formatRate(c)}
		tokens := shownTokens(c, now)
		if len(tokens) == 0 {
			row(append(about, "-", "-", "-", clientState(c, now))...)
		}
		for _, t := range tokens {
			row(append(about[:6:6], t.ID, formatTime(t.Expires), formatTime(t.LastUsed), tokenState(c, t, now))...)
		}
	}
	return table.Flush()
}

type clientJSON struct {
	Name       string      `json:"name"`
	ID         string      `json:"id"`
	Profile    string      `json:"profile,omitempty"`
	References string      `json:"references,omitempty"`
	Scopes     []string    `json:"scopes"`
	Networks   []string    `json:"networks,omitempty"`
	Rate       int         `json:"rate,omitzero"`
	Burst      int         `json:"burst,omitzero"`
	Created    time.Time   `json:"created"`
	Revoked    time.Time   `json:"revoked,omitzero"`
	State      string      `json:"state"`
	Tokens     []tokenJSON `json:"tokens"`
}

type tokenJSON struct {
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	LastUsed time.Time `json:"lastUsed,omitzero"`
	State    string    `json:"state"`
}

// writeClientsJSON prints all there is to know as a JSON array.
func writeClientsJSON(w io.Writer, clients []*storage.Client, now time.Time) error {
	list := make([]clientJSON, 0, len(clients))
	for _, c := range clients {
		j := clientJSON{
			Name: c.Name, ID: c.ID, Profile: c.Profile, References: c.References, Scopes: append([]string{}, c.Scopes...), Networks: c.Networks, Rate: c.Rate, Burst: c.Burst,
			Created: c.Created.UTC(), Revoked: c.Revoked.UTC(), State: clientState(c, now), Tokens: []tokenJSON{},
		}
		for _, t := range c.Tokens {
			j.Tokens = append(j.Tokens, tokenJSON{
				ID: t.ID, Created: t.Created.UTC(), Expires: t.Expires.UTC(), LastUsed: t.LastUsed.UTC(), State: tokenState(c, t, now),
			})
		}
		list = append(list, j)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(list)
}
