// Package exec has a program of the operator's own write challenge records:
// PROGRAM present|cleanup NAME VALUE.
package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	osexec "os/exec"
	"strings"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/setting"
)

// Provider is a dns.Provider. Safe for concurrent use: the program is started
// for each call, also side by side.
type Provider struct {
	program string
	raw     bool
}

// New makes a provider; the program must be there already.
func New(src setting.Source) (*Provider, error) {
	s := setting.Read(src)
	program := s.Need("the program that writes the records", "EXEC_PATH")
	mode := strings.ToUpper(s.Text("EXEC_MODE"))
	s.Tuning("EXEC_")
	if mode != "" && mode != "RAW" {
		s.Complain(fmt.Errorf("EXEC_MODE=%q: must be RAW or not set", mode))
	}
	if program != "" {
		found, err := osexec.LookPath(program)
		if err != nil {
			s.Complain(fmt.Errorf("EXEC_PATH: %w", err))
		}
		program = found
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return &Provider{program: program, raw: mode == "RAW"}, nil
}

// Present has the program add the value; other values at the name are its duty.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	return p.run(ctx, "present", rec)
}

// CleanUp has the program remove the value.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	return p.run(ctx, "cleanup", rec)
}

func (p *Provider) run(ctx context.Context, verb string, rec dns.Record) error {
	args := []string{verb, rec.Name + ".", rec.Value}
	if p.raw {
		if rec.KeyAuth == "" {
			return errors.New("exec: EXEC_MODE=RAW needs the key authorization, which the record of an older version does not have")
		}
		token, _, _ := strings.Cut(rec.KeyAuth, ".")
		args = []string{verb, "--", rec.Domain, token, rec.KeyAuth}
	}
	var out tail
	c := osexec.CommandContext(ctx, p.program, args...)
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = 2 * time.Second // for children that keep the output open
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("exec: %s %s %s: %w%s", p.program, verb, args[len(args)-2], err, out.String())
	}
	return nil
}

// tail keeps the end of what is written to it: errors come last.
type tail struct{ kept []byte }

const tailSize = 400

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if n := len(t.kept) - tailSize; n > 0 {
		t.kept = append(t.kept[:0], t.kept[n:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	text := bytes.Join(bytes.Fields(bytes.ToValidUTF8(t.kept, []byte("?"))), []byte(" "))
	if len(text) == 0 {
		return ", and it printed nothing"
	}
	return ", and it printed: " + string(text)
}
