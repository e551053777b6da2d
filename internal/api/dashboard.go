package api

import (
	"embed"
	"io/fs"
	"net/http"
)

// The page is three files, served as they are: no build step.
//
//go:embed dashboard
var page embed.FS

func dashboard() http.Handler {
	files, err := fs.Sub(page, "dashboard")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return http.StripPrefix("/dashboard/", http.FileServerFS(files))
}
