// A redirector as one writes it in an afternoon: a map of links, and one line of JSON appended before the answer.
//
//	redirector LOG ADDRESS
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

type click struct {
	At      int64  `json:"at"`
	URI     string `json:"uri"`
	IP      string `json:"ip"`
	Agent   string `json:"agent"`
	Referer string `json:"referer"`
	Cookie  string `json:"cookie"`
	ID      string `json:"id"`
}

func main() {
	file, err := os.OpenFile(os.Args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	pages := map[string]string{}
	for link := 0; link < 1024; link++ {
		pages[fmt.Sprintf("/l%d", link)] = fmt.Sprintf("https://shop.example/p/%d?color=black", link)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		page, known := pages[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			http.Error(w, "no randomness", http.StatusInternalServerError)
			return
		}
		id := hex.EncodeToString(random)
		cookie := ""
		if visitor, err := r.Cookie("aff_vid"); err == nil {
			cookie = visitor.Value
		}
		address, _, _ := strings.Cut(r.RemoteAddr, ":")
		record, err := json.Marshal(click{time.Now().UnixMilli(), r.RequestURI, address, r.UserAgent(), r.Referer(), cookie, id})
		if err == nil {
			_, err = file.Write(append(record, '\n'))
		}
		if err != nil {
			http.Error(w, "not recorded", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Set-Cookie", "aff_vid="+id+"; Path=/; HttpOnly; SameSite=Lax; Max-Age=34560000")
		http.Redirect(w, r, page+"&click_id="+id, http.StatusFound)
	})
	log.Fatal(http.ListenAndServe(os.Args[2], nil))
}
