package domains_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a DNS server on loopback, and a resolver that asks it.
type zone struct {
	*net.Resolver
	mu      sync.Mutex
	txt     map[string][]string
	cname   map[string]string
	silent  bool
	rcode   int
	queries int
}

func startDNS(t *testing.T) *zone {
	t.Helper()
	z := &zone{txt: map[string][]string{}, cname: map[string]string{}}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	s := &dns.Server{PacketConn: packets, Handler: z, NotifyStartedFunc: func() { close(ready) }}
	ended := make(chan error, 1)
	go func() { ended <- s.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	z.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", packets.LocalAddr().String())
	}}
	return z
}

// LookupTXT is net.Resolver's, with little patience.
func (z *zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	z.mu.Lock()
	silent := z.silent
	z.mu.Unlock()
	if silent {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		ctx = short
	}
	return z.Resolver.LookupTXT(ctx, name)
}

func (z *zone) set(name string, txt ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.txt[strings.ToLower(name)+"."] = txt
	if len(txt) == 0 {
		delete(z.txt, strings.ToLower(name)+".")
	}
}

func (z *zone) fail(silent bool, rcode int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.silent, z.rcode = silent, rcode
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.queries++
	if z.silent {
		return
	}
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	name := strings.ToLower(r.Question[0].Name)
	for target, ok := z.cname[name]; ok; target, ok = z.cname[name] {
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 1}, Target: target})
		name = target
	}
	for _, text := range z.txt[name] {
		m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}, Txt: []string{text}})
	}
	switch {
	case z.rcode != 0:
		m.Answer, m.Rcode = nil, z.rcode
	case len(z.txt[name]) == 0:
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m) // whoever asked is gone if this fails
}
