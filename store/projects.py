"""Projects: tenants, which an operator makes."""

from sqlalchemy import select

from store.database import Database
from store.ids import new_id
from store.models import Project


def create_project(db: Database, name: str) -> Project:
    """Return a new project, which has no key yet."""
    project = Project(id=new_id("prj"), name=name)
    with db.write() as session:
        session.add(project)
        session.flush()
        session.refresh(project)
    return project


def list_projects(db: Database) -> list[Project]:
    """Return all projects, oldest first."""
    with db.read() as session:
        return list(session.scalars(select(Project).order_by(Project.created_at, Project.id)))
