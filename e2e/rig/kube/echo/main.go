// Command echo is what test pods run: a server on each port of $PORTS that
// answers with what it received, and from which pod: HTTP/1.1, HTTP/2 without
// TLS, gRPC (the message comes back, the rest is metadata) and WebSocket (each
// message comes back). It ends when asked, at once, or after $LINGER.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
)

// Answer is what it says, in JSON.
type Answer struct {
	Pod, Service, Method, Host, Path, Query, Port, Proto string
	Header                                               http.Header
}

func main() {
	if linger, err := time.ParseDuration(os.Getenv("LINGER")); err == nil {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		go func() {
			<-asked
			time.Sleep(linger)
			os.Exit(0)
		}()
	}
	ended := make(chan error)
	for _, port := range strings.Fields(strings.ReplaceAll(os.Getenv("PORTS"), ",", " ")) {
		server := &http.Server{Addr: ":" + port, ReadHeaderTimeout: 10 * time.Second, Handler: echo(port), Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		go func() { ended <- server.ListenAndServe() }()
	}
	log.Fatal(<-ended)
}

func echo(port string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.Host, r.URL.Path)
		answer, err := json.Marshal(Answer{
			Pod: os.Getenv("HOSTNAME"), Service: os.Getenv("SERVICE"), Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(),
			Query: r.URL.RawQuery, Port: port, Proto: r.Proto, Header: r.Header,
		})
		if err != nil {
			panic(err)
		}
		switch {
		case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
			websocket.Server{Handler: func(c *websocket.Conn) {
				_, _ = c.Write(answer)
				_, _ = io.Copy(c, c)
			}}.ServeHTTP(w, r)
		case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Echo", string(answer))
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = io.Copy(w, io.LimitReader(r.Body, 1<<20))
			w.Header().Set("Grpc-Status", "0")
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(append(answer, '\n'))
		}
	}
}
