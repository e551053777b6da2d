package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"
)

const whoamiHelp = `gatehouse whoami [-address 127.0.0.1:8091] [-name NAME]

A small HTTP service that answers with what it received: for trying routes out.
Anything below /slow?wait=2s answers after that time (at most a minute).
`

func whoami(ctx context.Context, args []string, out, errOut io.Writer) error {
	flags := flag.NewFlagSet("whoami", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.Usage = func() { fmt.Fprint(errOut, whoamiHelp) }
	address := flags.String("address", "127.0.0.1:8091", "")
	name := flags.String("name", "", "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return errHelp
	case err != nil:
		return usageError(err)
	}
	if flags.NArg() > 0 {
		return usageError(fmt.Errorf("whoami takes no argument %q", flags.Arg(0)))
	}
	l, err := net.Listen("tcp", *address)
	if err != nil {
		return fmt.Errorf("listen for whoami: %w", err)
	}
	fmt.Fprintf(out, "whoami answers at http://%s\n", l.Addr())
	return serveWhoami(ctx, l, *name)
}

// serveWhoami serves until ctx ends.
func serveWhoami(ctx context.Context, l net.Listener, name string) error {
	if name == "" {
		name = l.Addr().String()
	}
	srv := &http.Server{Handler: whoamiHandler(name), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(stop)
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve whoami: %w", err)
	}
	return nil
}

func whoamiHandler(name string) http.Handler {
	host, _ := os.Hostname()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
			select {
			case <-time.After(min(wait, time.Minute)):
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Server: %s\nHostname: %s\nRemoteAddr: %s\n%s %s %s\nHost: %s\n", name, host, r.RemoteAddr, r.Method, r.URL.RequestURI(), r.Proto, r.Host)
		var keys []string
		for k := range r.Header {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			for _, v := range r.Header[k] {
				fmt.Fprintf(w, "%s: %s\n", k, v)
			}
		}
	})
}
