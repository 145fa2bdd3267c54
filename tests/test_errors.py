"""What a message keeps of an error of another library."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy

from fkal.errors import first_line


def test_the_line_of_a_database_names_neither_the_drivers_exception_nor_the_statement():
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(sqlalchemy.exc.OperationalError) as error:
        connection.execute(sqlalchemy.text("select * from experiments"))
    engine.dispose()
    assert first_line(error.value) == "no such table: experiments"


def test_words_in_brackets_that_begin_a_message_stay():
    with closing(sqlite3.connect(":memory:")) as database, pytest.raises(sqlite3.OperationalError) as error:
        database.execute("selec")
    assert first_line(error.value) == 'near "selec": syntax error'
    assert first_line(ValueError("(a.png) is no image")) == "(a.png) is no image"
