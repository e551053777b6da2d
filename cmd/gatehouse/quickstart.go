package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"gatehouse/examples"
)

const quickstartHelp = `gatehouse quickstart

Serves examples/quickstart on loopback, with two small test services behind it and certificates from a CA of its own. Outside of
a checkout the example is first written to .run/quickstart. Press Ctrl-C to stop.
`

const whatToTry = `
Gatehouse is running. Try, in another terminal:

  curl http://whoami.localhost:8000/
  curl --cacert .run/store/ca.pem https://whoami.localhost:8443/
  curl --cacert .run/store/ca.pem -u demo:demo https://whoami.localhost:8443/admin/x
  curl http://127.0.0.1:8080/api/certificates

  dashboard         http://127.0.0.1:8080/dashboard/
  routes            %s (change one and save it: in force at once)
  CA certificate    .run/store/ca.pem (for browsers and clients that shall trust it)
  state             .run/store (certificates and keys, one file each)

Ctrl-C stops it.

`

func quickstart(ctx context.Context, args []string, out, errOut io.Writer) error {
	if len(args) > 0 {
		fmt.Fprint(errOut, quickstartHelp)
		if args[0] == "--help" || args[0] == "-h" {
			return errHelp
		}
		return usageError(unexpected(args))
	}
	dir, err := quickstartFiles()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for _, address := range []string{"127.0.0.1:8091", "127.0.0.1:8092"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen for the test service: %w (is another quickstart running?)", err)
		}
		go func() { _ = serveWhoami(ctx, l, "") }()
	}
	go sayWhenReady(ctx, out, filepath.Join(dir, "routes"))
	return run(ctx, []string{"-c", filepath.Join(dir, "gatehouse.toml"), "--file.directory=" + filepath.Join(dir, "routes")}, out, errOut)
}

func unexpected(args []string) error { return fmt.Errorf("takes no argument %q", args[0]) }

// quickstartFiles finds the example in the checkout, else writes it.
func quickstartFiles() (string, error) {
	const inCheckout, own = "examples/quickstart", ".run/quickstart"
	if _, err := os.Stat(inCheckout); err == nil {
		return inCheckout, nil
	}
	files, err := fs.Sub(examples.Quickstart, "quickstart")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(own), 0o755); err != nil {
		return "", fmt.Errorf("write the example: %w", err)
	}
	if err := os.CopyFS(own, files); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("write the example: %w", err)
	}
	return own, nil
}

// sayWhenReady prints what to try once it would work.
func sayWhenReady(ctx context.Context, out io.Writer, routes string) {
	for ctx.Err() == nil {
		resp, err := http.Get("http://127.0.0.1:8080/ready")
		if err == nil {
			_ = resp.Body.Close()
			_, err = os.Stat(".run/store/ca.pem")
			if resp.StatusCode == http.StatusOK && err == nil {
				fmt.Fprintf(out, whatToTry, routes)
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
