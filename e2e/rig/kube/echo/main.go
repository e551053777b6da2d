// Command echo is what test pods run: an HTTP server on each port of $PORTS
// that answers with what it received, and from which pod. It ends when asked, at
// once.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

// Answer is what it says, in JSON.
type Answer struct {
	Pod, Service, Method, Host, Path, Query, Port string
	Header                                        http.Header
}

func main() {
	ended := make(chan error)
	for _, port := range strings.Fields(strings.ReplaceAll(os.Getenv("PORTS"), ",", " ")) {
		server := &http.Server{Addr: ":" + port, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Println(r.Method, r.Host, r.URL.Path)
			_ = json.NewEncoder(w).Encode(Answer{
				Pod: os.Getenv("HOSTNAME"), Service: os.Getenv("SERVICE"), Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(),
				Query: r.URL.RawQuery, Port: port, Header: r.Header,
			})
		})}
		go func() { ended <- server.ListenAndServe() }()
	}
	log.Fatal(<-ended)
}
