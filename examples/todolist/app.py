"""A todo list: a page for people, and JSON at /todos for programs. It is stored in a MySQL database."""

import html
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pymysql
from pymysql.cursors import DictCursor

TABLE = """
CREATE TABLE IF NOT EXISTS todos (
    id INT AUTO_INCREMENT PRIMARY KEY,
    text VARCHAR(200) NOT NULL,
    done BOOLEAN NOT NULL DEFAULT FALSE
)
"""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Todo</title>
<style>
  body {{ font: 1.1rem system-ui; max-width: 30rem; margin: 3rem auto; padding: 0 1rem }}
  li {{ margin: .5rem 0 }}
  .done {{ text-decoration: line-through; color: #666 }}
</style>
<h1>Todo</h1>
<ul>{items}</ul>
<form method="post" action="/todos">
  <label>What is to do? <input name="text" maxlength="200" required autofocus></label>
  <button>Add</button>
</form>
"""

ITEM = """
<li><form method="post" action="/todos/{id}/{action}">
  <span class="{state}">{text}</span> <button>{label}</button>
</form></li>
"""


def query(sql: str, *values: object) -> list[dict[str, Any]]:
    """Run one statement and return its rows."""
    connection = pymysql.connect(
        host=os.environ["MYSQL_HOST"],
        user=os.environ["MYSQL_USER"],
        password=os.environ["MYSQL_PASSWORD"],
        database=os.environ["MYSQL_DATABASE"],
        charset="utf8mb4",
        autocommit=True,
        cursorclass=DictCursor,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def todos() -> list[dict[str, Any]]:
    """All todos, in the order in which they were added."""
    rows = query("SELECT id, text, done FROM todos ORDER BY id")
    return [{**row, "done": bool(row["done"])} for row in rows]


def as_item(todo: dict[str, Any]) -> str:
    """A todo as HTML."""
    action, label, state = ("reopen", "Not yet", "done") if todo["done"] else ("finish", "Done", "open")
    return ITEM.format(id=todo["id"], text=html.escape(todo["text"]), action=action, label=label, state=state)


class Todolist(BaseHTTPRequestHandler):
    """The pages."""

    def do_GET(self) -> None:
        """Show the list."""
        if self.path == "/":
            self.answer("text/html", PAGE.format(items="".join(map(as_item, todos()))))
        elif self.path == "/todos":
            self.answer("application/json", json.dumps(todos()) + "\n")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Change the list, and show it."""
        match self.path.strip("/").split("/"):
            case ["todos"]:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                text = parse_qs(body).get("text", [""])[0].strip()
                if not 0 < len(text) <= 200:
                    self.send_error(400, "A todo has 1 to 200 characters")
                    return
                query("INSERT INTO todos (text) VALUES (%s)", text)
            case ["todos", number, "finish" | "reopen" as action] if number.isdigit():
                query("UPDATE todos SET done = %s WHERE id = %s", action == "finish", number)
            case _:
                self.send_error(404)
                return
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, kind: str, text: str) -> None:
        """Send a page."""
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    query(TABLE)
    ThreadingHTTPServer(("", 8080), Todolist).serve_forever()
