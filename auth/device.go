package auth

import (
	"slices"
	"time"
)

// devicesKept bounds the devices that are remembered of an account, so that what a
// sign-in costs does not grow with how many there were.
const devicesKept = 16

// Device is a program on a network that an account has signed in from, with all that
// it took: whoever knows the password alone makes none known.
type Device struct {
	// ID is equal for two sign-ins that seem to come from the same one; neither can
	// be told from it. The empty one is no device: what was signed in from stays unknown.
	ID   string    `json:"id"`
	At   time.Time `json:"at"` // of the last sign-in from it
	From string    `json:"from,omitzero"`
}

// recent reports whether a sign-in is still remembered.
func (d *Device) recent(now time.Time) bool { return now.Sub(d.At) < signInDays*day }

// saw remembers a sign-in, in the place of what is longest ago.
func (c *Credential) saw(d Device) {
	c.Devices = slices.DeleteFunc(c.Devices, func(o Device) bool {
		if o.ID == d.ID && o.At.After(d.At) {
			d = o
		}
		return o.ID == d.ID || !o.recent(d.At)
	})
	c.Devices = append(c.Devices, d)
	slices.SortStableFunc(c.Devices, func(a, b Device) int { return b.At.Compare(a.At) })
	c.Devices = c.Devices[:min(len(c.Devices), devicesKept)]
}

// past is what is remembered of the sign-ins of one account.
type past struct {
	newDevice bool      // the device is none of those that are remembered
	idleDays  int       // whole days since the last one, -1 for never
	last      time.Time // the last one, complete or not, or zero
}

// remember returns what devices tell somebody who comes with one of them, or another.
func remember(devices []Device, id string, now time.Time) past {
	p := past{newDevice: true, idleDays: -1}
	for _, d := range devices {
		if !d.recent(now) {
			continue
		}
		p.newDevice = p.newDevice && (d.ID != id || id == "")
		if d.At.After(p.last) {
			p.last, p.idleDays = d.At, max(0, int(now.Sub(d.At)/day))
		}
	}
	return p
}
