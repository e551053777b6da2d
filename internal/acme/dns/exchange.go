package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	mdns "github.com/miekg/dns"
)

// question is what is asked; name is canonical.
type question struct {
	name  string
	qtype uint16
}

// answer is what one server said, or why nothing was heard from it.
type answer struct {
	server string
	msg    *mdns.Msg
	proto  string
	took   time.Duration
	err    error
}

// asker puts one question to one server. It is an interface so that the loops
// above it can run in synthetic time, where sockets cannot.
type asker interface {
	ask(ctx context.Context, server string, q question) answer
}

const (
	defaultTimeout = 2 * time.Second
	udpSize        = 1232 // fits every path without fragments (DNS flag day 2020)
)

// exchanger is the asker of the real world. A question goes out by UDP; if
// nothing usable came back by a third of the timeout, or the answer was
// truncated or broken, it goes out again by TCP and by UDP, now without EDNS,
// and the first usable answer wins. One lost packet therefore costs time, never
// an answer.
type exchanger struct {
	timeout time.Duration // for the whole question; zero: 2 s
}

func (e exchanger) ask(ctx context.Context, server string, q question) answer {
	timeout := e.timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	tries := make(chan answer, 3)
	running, hedged := 0, false
	try := func(w way) {
		running++
		go func() { tries <- exchangeOnce(ctx, server, w, q) }()
	}
	hedge := func(ways ...way) {
		if hedged {
			return
		}
		hedged = true
		for _, w := range ways {
			try(w)
		}
	}
	late := time.NewTimer(timeout / 3)
	defer late.Stop()
	var failed []answer
	for try(way{"udp", true}); running > 0; {
		select {
		case a := <-tries:
			running--
			if a.err == nil {
				a.server, a.took = server, time.Since(start)
				return a
			}
			failed = append(failed, a)
			if errors.Is(a.err, errTruncated) {
				hedge(way{"tcp", false})
			}
			hedge(way{"tcp", false}, way{"udp", false})
		case <-late.C:
			hedge(way{"tcp", false}, way{"udp", false})
		}
	}
	return answer{server: server, proto: failed[len(failed)-1].proto, took: time.Since(start), err: sumUp(failed)}
}

// way is how a question travels. Only the first one has EDNS: some servers
// and many middleboxes choke on it.
type way struct {
	proto string
	edns  bool
}

// exchangeOnce sends one message and reads one answer. Any answer that cannot
// be used (truncated, to another question) is an error.
func exchangeOnce(ctx context.Context, server string, w way, q question) answer {
	proto := w.proto
	a := answer{proto: proto}
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(q.name), q.qtype)
	if w.edns {
		m.SetEdns0(udpSize, false)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, proto, server)
	if err != nil {
		a.err = err
		return a
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	c := mdns.Client{Net: proto, Timeout: defaultTimeout, UDPSize: udpSize}
	a.msg, _, a.err = c.ExchangeWithConnContext(ctx, m, &mdns.Conn{Conn: conn, UDPSize: udpSize})
	if a.err == nil {
		a.err = usable(a.msg, w, q)
	}
	return a
}

var (
	errTruncated = errors.New("truncated answer")
	errOther     = errors.New("answer to another question")
)

// usable checks what the library leaves to its callers.
func usable(m *mdns.Msg, w way, q question) error {
	switch {
	case !m.Response:
		return errOther
	case len(m.Question) == 0 && m.Rcode != mdns.RcodeSuccess:
		return nil // some servers leave it out of a refusal
	case len(m.Question) != 1 || m.Question[0].Qtype != q.qtype || canonical(m.Question[0].Name) != q.name:
		return errOther
	case m.Truncated:
		return errTruncated
	case w.proto == "udp" && (m.Rcode == mdns.RcodeFormatError || m.Rcode == mdns.RcodeNotImplemented || m.Rcode == mdns.RcodeBadVers):
		return fmt.Errorf("said %s", mdns.RcodeToString[m.Rcode])
	}
	return nil
}

// sumUp makes one short error of the failures of one question.
func sumUp(failed []answer) error {
	var parts []string
	seen := map[string]bool{}
	for _, a := range failed {
		text := reason(a.err)
		if !seen[text] {
			seen[text] = true
			parts = append(parts, text+" ("+a.proto+")")
		}
	}
	if len(parts) == 1 {
		return errors.New(reason(failed[0].err))
	}
	return errors.New(strings.Join(parts, ", "))
}

// reason puts an error of the network into the two or three words a line of
// several servers has room for.
func reason(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "not waited for"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused the connection"
	case errors.As(err, &op) && op.Timeout():
		return "timed out"
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.Is(err, errTruncated), errors.Is(err, errOther):
		return "gave " + err.Error()
	case strings.HasPrefix(err.Error(), "dns: "):
		return "sent garbage"
	}
	return err.Error()
}
